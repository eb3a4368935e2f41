# Strings, hashes and big numbers, made, joined and dropped by several threads.
srand(12345)
sum = ->(text) { text.each_byte.reduce(7) { |h, b| (h * 31 + b) % 1_000_000_007 } }

table = {}
120_000.times { |i| table["key#{i}"] = [i, "x" * rand(1..200), { i => i.to_s }] }
table.delete_if { |key, _| key.end_with?("3", "7") }
puts "table: #{table.size} #{sum.(table.map { |k, v| "#{k}#{v[1].size}" }.join)}"

queue = Thread::SizedQueue.new(100)
makers = 4.times.map { |t| Thread.new { 5_000.times { |i| queue << "#{t}:" + "y" * (i * 13 % 3000) } ; queue << nil } }
length, ended = 0, 0
while ended < 4
  text = queue.pop
  text ? length += text.size : ended += 1
end
makers.each(&:join)
puts "handed on: #{length}"

big = (1..3000).reduce(:*)
puts "big: #{sum.(big.to_s)}"

text = table.keys.join(" ")
puts "matches: #{text.scan(/key(\d)\1\d*/).size} #{sum.(text.gsub(/\d+/) { |n| n.reverse })}"
GC.start
GC.compact if GC.respond_to?(:compact)
puts "all: #{table.size}"
