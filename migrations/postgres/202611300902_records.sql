-- Configuration records and the few small things that live beside them.

CREATE TABLE records (
    kind       text   NOT NULL, -- user, agent, queue, skill, number, activity or disposition
    id         uuid   NOT NULL, -- the record
    key        text   COLLATE "C" NOT NULL, -- unique among its kind, sorted by its bytes: a login, a number, a name
    body       text   NOT NULL, -- content as JSON
    version    bigint NOT NULL, -- grows by one with each change, from 1
    created_at bigint NOT NULL, -- when it was made, milliseconds since 1970 UTC
    updated_at bigint NOT NULL, -- when it was last changed, milliseconds since 1970 UTC
    PRIMARY KEY (kind, id),
    UNIQUE (kind, key)
);

CREATE TABLE idempotency_keys (
    key          text     NOT NULL PRIMARY KEY, -- the Idempotency-Key with the scope the edge gave it
    request_hash text     NOT NULL, -- hash of the request's body
    status       integer  NOT NULL, -- HTTP status of the answer, 0 while the request still runs
    body         text     NOT NULL, -- body of the answer
    claimed_at   bigint   NOT NULL  -- when the key was first seen, milliseconds since 1970 UTC
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (claimed_at);

CREATE TABLE orphan_events (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- order of arrival
    provider text   NOT NULL, -- name of the provider section in the configuration
    name     text   NOT NULL, -- which callback it was
    fields   text   NOT NULL, -- the fields of the request
    at       bigint NOT NULL  -- when it arrived, milliseconds since 1970 UTC
);
