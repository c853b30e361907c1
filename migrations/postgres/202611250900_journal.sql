-- The journal: every fact, the head of each entity's stream, and the providers' names of entities.

-- Places among all facts. Handed out before the commit, so only facts of one shard, which has one
-- writer, are sure to become visible in this order.
CREATE SEQUENCE facts_position AS bigint;

CREATE TABLE facts (
    position    bigint   NOT NULL DEFAULT nextval('facts_position'),
    entity_kind smallint NOT NULL, -- 1 call, 2 agent
    entity_id   uuid     NOT NULL,
    seq         bigint   NOT NULL, -- number in the life of the entity, from 1, no gaps
    shard       smallint NOT NULL, -- shard of the entity, 0 to 255
    fact_id     uuid     NOT NULL, -- consumers drop doubles by it
    at          bigint   NOT NULL, -- when it was decided, milliseconds since 1970 UTC
    kind        text     NOT NULL, -- event type, as in call.received
    body        text     NOT NULL, -- the fact as JSON, byte for byte as it was sent
    PRIMARY KEY (entity_kind, entity_id, seq, at),
    UNIQUE (fact_id, at)
) PARTITION BY RANGE (at); -- one partition per month, made by the program ahead of time

CREATE INDEX facts_by_position ON facts (position);

-- The head of each stream guards it: whoever appends compares and sets seq in the transaction that
-- stores the facts. A unique index over all partitions could not do it, as it must hold `at`.
CREATE TABLE heads (
    entity_kind smallint NOT NULL, -- 1 call, 2 agent
    entity_id   uuid     NOT NULL,
    seq         bigint   NOT NULL, -- number of its last fact
    is_open     boolean  NOT NULL, -- whether a restart must load it again
    shard       smallint NOT NULL, -- shard it belongs to, 0 to 255
    first_at    bigint   NOT NULL, -- time of its earliest fact, which spares readers older partitions
    PRIMARY KEY (entity_kind, entity_id)
) WITH (fillfactor = 70); -- room beside each row, so that counting on touches no index

-- What a restart or the take-over of a shard loads; holds open entities only, so it stays small.
CREATE INDEX heads_open ON heads (entity_kind, shard) WHERE is_open;

CREATE TABLE provider_refs (
    provider    text     NOT NULL, -- name of the provider section in the configuration
    reference   text     NOT NULL, -- the provider's own id of a call, leg or conference
    entity_kind smallint NOT NULL, -- 1 call, 2 agent
    entity_id   uuid     NOT NULL,
    PRIMARY KEY (provider, reference)
);

-- How far each reader of the journal is, by shard.
CREATE TABLE outbox_cursors (
    reader   text     NOT NULL, -- bus or archive
    shard    smallint NOT NULL, -- 0 to 255
    position bigint   NOT NULL, -- behind this place nothing was read yet
    PRIMARY KEY (reader, shard)
) WITH (fillfactor = 70);

-- The nodes of the cluster. The row of a node is its fence: each batch takes a shared lock on it,
-- and declaring a node dead takes it alone.
CREATE TABLE nodes (
    node_id     text   NOT NULL PRIMARY KEY, -- name of the node
    incarnation uuid   NOT NULL,             -- changes with each start of the node
    status      text   NOT NULL,             -- alive or dead
    lease_until bigint NOT NULL              -- milliseconds since 1970 UTC
) WITH (fillfactor = 50);

CREATE TABLE probe (
    id   integer PRIMARY KEY CHECK (id = 1), -- there is one row
    beat bigint  NOT NULL                    -- grows with each check whether the store can be written
);

INSERT INTO probe (id, beat) VALUES (1, 0);
