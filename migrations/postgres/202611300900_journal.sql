-- The journal: every fact, the head of each entity's stream, and the providers' names of entities.

-- Places among all facts. Handed out before the commit, so another transaction may show a higher
-- one first.
CREATE SEQUENCE facts_position;

CREATE TABLE facts (
    position    bigint   NOT NULL DEFAULT nextval('facts_position'), -- grows, gaps are possible
    seq         bigint   NOT NULL, -- number in the life of the entity, from 1, no gaps
    at          bigint   NOT NULL, -- when it was decided, milliseconds since 1970 UTC; chooses the partition
    entity_id   uuid     NOT NULL, -- the entity
    fact_id     uuid     NOT NULL, -- the fact; consumers drop doubles by it
    shard       smallint NOT NULL, -- shard of the entity, 0 to 255
    entity_kind smallint NOT NULL, -- 1 call, 2 agent
    kind        text     NOT NULL, -- event type, as in call.received
    body        text     NOT NULL  -- the fact as JSON, byte for byte as it was sent
) PARTITION BY RANGE (at); -- one partition per month in UTC, facts_YYYY_MM, made by the program

-- A unique index over partitions must hold the partition key. That (entity, seq) is unique without
-- it is guarded by the head, which is compared and set in the same transaction.
CREATE UNIQUE INDEX facts_by_entity ON facts (entity_id, entity_kind, seq, at);
CREATE UNIQUE INDEX facts_by_fact_id ON facts (fact_id, at);
CREATE INDEX facts_by_position ON facts (position);

CREATE TABLE heads (
    seq         bigint   NOT NULL, -- number of its last fact
    prior_seq   bigint   NOT NULL, -- the same before the batch that wrote it; a batch states it to say what it builds on
    version     bigint   NOT NULL, -- grows by one with each batch, from 1
    since       bigint   NOT NULL, -- time of its earliest fact, milliseconds since 1970 UTC; older months hold none
    entity_id   uuid     NOT NULL, -- the entity
    entity_kind smallint NOT NULL, -- 1 call, 2 agent
    shard       smallint NOT NULL, -- shard it belongs to, 0 to 255
    is_open     boolean  NOT NULL, -- whether a restart must load it again
    PRIMARY KEY (entity_id, entity_kind)
) WITH (fillfactor = 70); -- room to change a row within its page, which spares the indexes

-- What a restart or the take-over of a shard loads; holds open entities only, so it stays small.
CREATE INDEX heads_open ON heads (entity_kind, shard) WHERE is_open;

CREATE TABLE provider_refs (
    provider    text     NOT NULL, -- name of the provider section in the configuration
    reference   text     NOT NULL, -- the provider's own id of a call, leg or conference
    entity_id   uuid     NOT NULL, -- the entity
    entity_kind smallint NOT NULL, -- 1 call, 2 agent
    PRIMARY KEY (provider, reference)
);

CREATE TABLE outbox_cursors (
    reader   text     NOT NULL, -- who reads: bus, archive …
    position bigint   NOT NULL, -- all facts of the shard up to this position have been delivered
    shard    smallint NOT NULL, -- shard whose facts are read, 0 to 255
    PRIMARY KEY (reader, shard)
) WITH (fillfactor = 50);

CREATE TABLE probe (
    id   integer PRIMARY KEY CHECK (id = 1), -- there is one row
    beat bigint  NOT NULL                    -- grows with each check whether the store can be written
) WITH (fillfactor = 50);

INSERT INTO probe (id, beat) VALUES (1, 0);
