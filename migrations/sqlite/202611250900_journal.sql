-- The journal: every fact, the head of each entity's stream, and the providers' names of entities.

CREATE TABLE facts (
    position    INTEGER PRIMARY KEY AUTOINCREMENT, -- place among all facts; grows, gaps are possible
    entity_kind INTEGER NOT NULL,                  -- 1 call, 2 agent
    entity_id   BLOB    NOT NULL,                  -- UUID of the entity, 16 bytes
    seq         INTEGER NOT NULL,                  -- number in the life of the entity, from 1, no gaps
    fact_id     BLOB    NOT NULL,                  -- UUID of the fact, 16 bytes; consumers drop doubles by it
    at          INTEGER NOT NULL,                  -- when it was decided, milliseconds since 1970 UTC
    kind        TEXT    NOT NULL,                  -- event type, as in call.received
    body        TEXT    NOT NULL,                  -- the fact as JSON
    -- The second net below the heads: two writers of one entity can never both succeed.
    UNIQUE (entity_kind, entity_id, seq)
) STRICT;

CREATE UNIQUE INDEX facts_by_fact_id ON facts (fact_id);

CREATE TABLE heads (
    entity_kind INTEGER NOT NULL, -- 1 call, 2 agent
    entity_id   BLOB    NOT NULL, -- UUID of the entity, 16 bytes
    seq         INTEGER NOT NULL, -- number of its last fact
    is_open     INTEGER NOT NULL, -- 1 while a restart must load it again, else 0
    shard       INTEGER NOT NULL, -- shard it belongs to, 0 to 255
    PRIMARY KEY (entity_kind, entity_id)
) STRICT, WITHOUT ROWID;

-- What a restart or the take-over of a shard loads; holds open entities only, so it stays small.
CREATE INDEX heads_open ON heads (entity_kind, shard) WHERE is_open = 1;

CREATE TABLE provider_refs (
    provider    TEXT    NOT NULL, -- name of the provider section in the configuration
    reference   TEXT    NOT NULL, -- the provider's own id of a call, leg or conference
    entity_kind INTEGER NOT NULL, -- 1 call, 2 agent
    entity_id   BLOB    NOT NULL, -- UUID of the entity, 16 bytes
    PRIMARY KEY (provider, reference)
) STRICT, WITHOUT ROWID;

CREATE TABLE probe (
    id   INTEGER PRIMARY KEY CHECK (id = 1), -- there is one row
    beat INTEGER NOT NULL                    -- grows with each check whether the store can be written
) STRICT;

INSERT INTO probe (id, beat) VALUES (1, 0);
