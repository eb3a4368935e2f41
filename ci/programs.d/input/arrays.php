<?php
// Arrays of strings and of objects that are sorted, joined, matched and dropped, and cycles for the collector.
ini_set('memory_limit', '1G');
mt_srand(12345);

class Node { public $next; public $text; public $list = []; }

$words = [];
for ($i = 0; $i < 150000; $i++) $words[] = str_repeat(chr(97 + $i % 26), mt_rand(1, 60)) . $i;
sort($words);
printf("sorted: %08x\n", crc32(implode(',', $words)));

$by_length = [];
foreach ($words as $word) $by_length[strlen($word)][] = strrev($word);
ksort($by_length);
printf("lists: %d %08x\n", count($by_length), crc32(serialize($by_length)));

$found = preg_match_all('/([a-f])\1*(\d+)/', implode(' ', array_slice($words, 0, 50000)), $matches);
printf("matches: %d %08x\n", $found, crc32(json_encode($matches)));

for ($round = 0; $round < 20; $round++) {
    $ring = [];
    for ($i = 0; $i < 5000; $i++) {
        $node = new Node;
        $node->text = "node $round $i";
        $node->list = range(0, $i % 30);
        $ring[] = $node;
        if ($i) $ring[$i - 1]->next = $node;
    }
    $ring[4999]->next = $ring[0];
    unset($ring, $node);
    $collected = gc_collect_cycles();
    if ($round % 10 == 0) printf("round %d: %d\n", $round, $collected > 0);
}

$copy = unserialize(serialize($by_length));
printf("all: %d\n", $copy == $by_length);
