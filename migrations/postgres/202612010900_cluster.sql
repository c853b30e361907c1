-- What several nodes share beyond the fence: how they reach each other, who owns which shard, the
-- secret that lets them talk, and which command led to a fact.

ALTER TABLE nodes
    ADD COLUMN address    text   NOT NULL DEFAULT '', -- cluster listener as host:port, empty when there is none
    ADD COLUMN public_url text   NOT NULL DEFAULT '', -- how the outside reaches the node
    ADD COLUMN roles      text   NOT NULL DEFAULT '', -- what it does, words with commas between
    ADD COLUMN version    text   NOT NULL DEFAULT '', -- version of its program
    ADD COLUMN started_at bigint NOT NULL DEFAULT 0,  -- when this run began, milliseconds since 1970 UTC by the clock of this database
    DROP CONSTRAINT nodes_status_check,
    -- draining: alive, hands its shards over; left: went by itself, for good as dead is
    ADD CONSTRAINT nodes_status_check CHECK (status IN ('alive', 'draining', 'dead', 'left'));

CREATE TABLE shards (
    shard       smallint NOT NULL PRIMARY KEY CHECK (shard BETWEEN 0 AND 255),
    node_id     text, -- node that owns it or owned it last; whether that still counts is told by nodes
    incarnation uuid, -- the run of that node
    CHECK ((node_id IS NULL) = (incarnation IS NULL))
) WITH (fillfactor = 50); -- no index holds what a change of owner changes

INSERT INTO shards (shard) SELECT generate_series(0, 255);

CREATE TABLE cluster_secret (
    id      integer PRIMARY KEY CHECK (id = 1), -- there is one row
    secret  text    NOT NULL, -- what nodes prove to each other that they belong together with
    ca_cert text    NOT NULL, -- certificate that signs the nodes' certificates, PEM
    ca_key  text    NOT NULL  -- its private key, PEM
);

ALTER TABLE facts ADD COLUMN cause uuid; -- the command that led to the fact, where that is known
ALTER TABLE archive_items ADD COLUMN cause text; -- the same of a fact, as its id is written
