# A hash of 500,000 keys, whose values are strings that grow, lists and hashes. Prints sums of all that is kept.
use strict;
use warnings;
use integer;

my $seed = 7;
sub next_number { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return ($seed >> 8) % $_[0] }

my %kept;
for my $n (1 .. 500_000) {
    my $kind = next_number(4);
    $kept{"key-$n"} =
          $kind == 0 ? 'x' x next_number(200)
        : $kind == 1 ? [map { $n + $_ } 0 .. next_number(6)]
        : $kind == 2 ? { number => $n, name => "name $n" }
        :              $n;
}
print 'filled: ', scalar(keys %kept), "\n";

for my $n (1 .. 500_000) {
    delete $kept{"key-$n"} if $n % 2;
}
# Strings grow in place or move; lists are spliced; all of it among the holes that were just made.
for my $n (1 .. 500_000) {
    my $value = $kept{"key-$n"};
    next unless defined $value;
    if    (ref $value eq 'ARRAY') { splice @$value, 1, 1, ($n) x next_number(10) }
    elsif (ref $value eq 'HASH')  { $value->{"more $_"} = 'y' x next_number(50) for 1 .. 3 }
    else                          { $kept{"key-$n"} .= "-$n" x next_number(8) }
}
print 'left: ', scalar(keys %kept), "\n";

my ($sum, $bytes) = (0, 0);
for my $key (sort keys %kept) {
    my $value = $kept{$key};
    my $text =
          ref $value eq 'ARRAY' ? join(',', @$value)
        : ref $value eq 'HASH'  ? join(',', map { "$_=$value->{$_}" } sort keys %$value)
        :                         $value;
    $bytes += length $text;
    $sum = ($sum * 31 + unpack('%32C*', "$key $text")) % 1_000_000_007;
}
print "all: $bytes bytes, sum $sum\n";
