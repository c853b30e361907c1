-- Configuration records and the few small things that live beside them.

CREATE TABLE records (
    kind       TEXT    NOT NULL, -- user, agent, queue, skill, number, activity or disposition
    id         BLOB    NOT NULL, -- UUID of the record, 16 bytes
    key        TEXT    NOT NULL, -- unique among its kind: a login, a number, a name
    body       TEXT    NOT NULL, -- content as JSON
    version    INTEGER NOT NULL, -- grows by one with each change, from 1
    created_at INTEGER NOT NULL, -- when it was made, milliseconds since 1970 UTC
    updated_at INTEGER NOT NULL, -- when it was last changed, milliseconds since 1970 UTC
    PRIMARY KEY (kind, id),
    UNIQUE (kind, key)
) STRICT;

CREATE TABLE idempotency_keys (
    key          TEXT    NOT NULL PRIMARY KEY, -- the Idempotency-Key with the scope the edge gave it
    request_hash TEXT    NOT NULL,             -- hash of the request's body
    status       INTEGER NOT NULL,             -- HTTP status of the answer, 0 while the request still runs
    body         TEXT    NOT NULL,             -- body of the answer
    claimed_at   INTEGER NOT NULL              -- when the key was first seen, milliseconds since 1970 UTC
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (claimed_at);

CREATE TABLE orphan_events (
    id       INTEGER PRIMARY KEY AUTOINCREMENT, -- order of arrival
    provider TEXT    NOT NULL,                  -- name of the provider section in the configuration
    name     TEXT    NOT NULL,                  -- which callback it was
    fields   TEXT    NOT NULL,                  -- the fields of the request
    at       INTEGER NOT NULL                   -- when it arrived, milliseconds since 1970 UTC
) STRICT;
