-- A page cache larger than the file and temporary tables in memory: the work is the allocator's, not the disk's.
PRAGMA journal_mode = MEMORY;
PRAGMA synchronous = OFF;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -200000;

CREATE TABLE item (id INTEGER PRIMARY KEY, family INTEGER, price REAL, name TEXT, note BLOB);
BEGIN;
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 400000)
INSERT INTO item
SELECT n, (n * 7919) % 1009, ((n * 104729) % 100003) / 100.0, printf('item-%06d-%x', (n * 31337) % 400009, n),
       CASE n % 5 WHEN 0 THEN zeroblob(n % 97) ELSE NULL END
FROM number;
COMMIT;
CREATE INDEX item_by_family ON item (family, price);
CREATE INDEX item_by_name ON item (name);
UPDATE item SET name = name || '-renamed' WHERE id % 11 = 0;
DELETE FROM item WHERE id % 13 = 0;

SELECT count(*), sum(family), round(sum(price), 2), min(name), max(name), sum(length(note)) FROM item;
SELECT family, count(*), round(avg(price), 4), max(name) FROM item GROUP BY family ORDER BY family;
SELECT length(group_concat(name)), count(DISTINCT substr(name, 1, 9)) FROM item;
SELECT a.family, count(*) FROM item AS a JOIN item AS b ON b.name = a.name || '-renamed' OR b.id = a.id * 2
WHERE a.id < 2000 GROUP BY a.family ORDER BY 2 DESC, 1 LIMIT 20;
SELECT id, name, rank() OVER (PARTITION BY family % 10 ORDER BY price DESC, id) AS place FROM item
ORDER BY name DESC LIMIT 200;
SELECT family, json_group_array(name) FROM (SELECT family, name FROM item WHERE family < 5 ORDER BY id) GROUP BY family;
PRAGMA integrity_check;
