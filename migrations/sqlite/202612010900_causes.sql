-- Which command led to a fact, where that is known.

ALTER TABLE facts ADD COLUMN cause BLOB; -- UUID of the command, 16 bytes
ALTER TABLE archive_items ADD COLUMN cause TEXT; -- the same of a fact, as its id is written
