-- How far each reader of the journal is, by shard.

CREATE TABLE outbox_cursors (
    reader   TEXT    NOT NULL, -- bus or archive
    shard    INTEGER NOT NULL, -- 0 to 255
    position INTEGER NOT NULL, -- behind this place nothing was read yet
    PRIMARY KEY (reader, shard)
) STRICT, WITHOUT ROWID;
