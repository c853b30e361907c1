-- What lets somebody in for a while, what counts tries and takes tokens away, and the audit trail.

CREATE TABLE grants (
    kind       TEXT    NOT NULL, -- session, challenge, factor, link, code, device …
    key        TEXT    NOT NULL, -- unique among its kind: an id, or the SHA-256 of what the holder knows
    subject    BLOB    NOT NULL, -- UUID of the user or client it is about, 16 bytes; nil when not known
    body       TEXT    NOT NULL, -- content as JSON
    version    INTEGER NOT NULL, -- grows by one with each change, from 1
    created_at INTEGER NOT NULL, -- when it was made, milliseconds since 1970 UTC
    expires_at INTEGER NOT NULL, -- from when on it does not count, milliseconds since 1970 UTC
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_about ON grants (subject, kind);
CREATE INDEX grants_by_end ON grants (expires_at);

CREATE TABLE counters (
    key     TEXT    NOT NULL PRIMARY KEY, -- what is counted
    count   INTEGER NOT NULL,             -- how often since its window began
    ends_at INTEGER NOT NULL              -- when its window ends, milliseconds since 1970 UTC
) STRICT, WITHOUT ROWID;

CREATE INDEX counters_by_end ON counters (ends_at);

CREATE TABLE revocations (
    subject     BLOB    NOT NULL PRIMARY KEY, -- UUID of a user, client, session or key, 16 bytes
    least_epoch INTEGER NOT NULL,             -- its tokens with a smaller epoch are refused
    at          INTEGER NOT NULL,             -- when it was revoked last, milliseconds since 1970 UTC
    until       INTEGER NOT NULL              -- when the last such token has expired, milliseconds since 1970 UTC
) STRICT, WITHOUT ROWID;

CREATE INDEX revocations_by_time ON revocations (at);
CREATE INDEX revocations_by_end ON revocations (until);

CREATE TABLE audit (
    number  INTEGER NOT NULL PRIMARY KEY, -- place in the chain, from 1, no gaps
    at      INTEGER NOT NULL,             -- when it was done, milliseconds since 1970 UTC
    what    TEXT    NOT NULL,             -- type of event, as in user.login_succeeded
    actor   TEXT    NOT NULL,             -- who did it: an id, host or unknown
    subject TEXT,                         -- what it was done to, as an id
    body    TEXT    NOT NULL,             -- the entry as JSON, byte for byte as it was hashed
    hash    BLOB    NOT NULL              -- SHA-256 over the hash before, the number and the body
) STRICT;

-- Read newest first, whole or by one of these.
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_what ON audit (what, number);
CREATE INDEX audit_by_actor ON audit (actor, number);
CREATE INDEX audit_by_subject ON audit (subject, number) WHERE subject IS NOT NULL;

-- Apart from the entries, so that one that is taken off the end leaves a gap.
CREATE TABLE audit_end (
    id     INTEGER PRIMARY KEY CHECK (id = 1), -- there is one row
    number INTEGER NOT NULL,                   -- number of the last entry, 0 before the first
    hash   BLOB    NOT NULL                    -- its hash
) STRICT;

INSERT INTO audit_end (id, number, hash) VALUES (1, 0, zeroblob(32));

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'audit entries are never changed');
END;

CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'audit entries are never removed');
END;
