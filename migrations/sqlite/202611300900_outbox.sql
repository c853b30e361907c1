-- How far the readers of the journal (the relays to the bus and to the archive) have come.

CREATE TABLE outbox_cursors (
    reader   TEXT    NOT NULL, -- who reads: bus, archive …
    shard    INTEGER NOT NULL, -- shard whose facts are read, 0 to 255
    position INTEGER NOT NULL, -- all facts of the shard up to this position have been delivered
    PRIMARY KEY (reader, shard)
) STRICT, WITHOUT ROWID;
