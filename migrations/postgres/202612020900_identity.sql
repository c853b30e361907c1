-- What lets somebody in for a while, what counts tries and takes tokens away, and the audit trail.

CREATE TABLE grants (
    kind       text   NOT NULL, -- session, challenge, factor, link, code, device …
    key        text   COLLATE "C" NOT NULL, -- unique among its kind: an id, or the SHA-256 of what the holder knows
    subject    uuid   NOT NULL, -- the user or client it is about; nil when not known
    body       text   NOT NULL, -- content as JSON
    version    bigint NOT NULL, -- grows by one with each change, from 1
    created_at bigint NOT NULL, -- when it was made, milliseconds since 1970 UTC
    expires_at bigint NOT NULL, -- from when on it does not count, milliseconds since 1970 UTC
    PRIMARY KEY (kind, key)
);

CREATE INDEX grants_about ON grants (subject, kind);
CREATE INDEX grants_by_end ON grants (expires_at);

CREATE TABLE counters (
    key     text   COLLATE "C" NOT NULL PRIMARY KEY, -- what is counted
    count   bigint NOT NULL, -- how often since its window began
    ends_at bigint NOT NULL  -- when its window ends, milliseconds since 1970 UTC
) WITH (fillfactor = 70); -- no index holds the count, so most changes stay within the page

CREATE INDEX counters_by_end ON counters (ends_at);

CREATE TABLE revocations (
    subject     uuid   NOT NULL PRIMARY KEY, -- a user, client, session or key
    least_epoch bigint NOT NULL, -- its tokens with a smaller epoch are refused
    at          bigint NOT NULL, -- when it was revoked last, milliseconds since 1970 UTC by the clock of this database
    until       bigint NOT NULL  -- when the last such token has expired, milliseconds since 1970 UTC
);

CREATE INDEX revocations_by_time ON revocations (at);
CREATE INDEX revocations_by_end ON revocations (until);

CREATE TABLE audit (
    number  bigint NOT NULL PRIMARY KEY, -- place in the chain, from 1, no gaps
    at      bigint NOT NULL, -- when it was done, milliseconds since 1970 UTC
    what    text   COLLATE "C" NOT NULL, -- type of event, as in user.login_succeeded
    actor   text   NOT NULL, -- who did it: an id, host or unknown
    subject text,            -- what it was done to, as an id
    body    text   NOT NULL, -- the entry as JSON, byte for byte as it was hashed
    hash    bytea  NOT NULL  -- SHA-256 over the hash before, the number and the body
);

-- Read newest first, whole or by one of these.
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_what ON audit (what, number);
CREATE INDEX audit_by_actor ON audit (actor, number);
CREATE INDEX audit_by_subject ON audit (subject, number) WHERE subject IS NOT NULL;

-- Apart from the entries, so that one that is taken off the end leaves a gap. Whoever appends holds
-- the row until its commit, so the chain has one writer at a time.
CREATE TABLE audit_end (
    id     integer PRIMARY KEY CHECK (id = 1), -- there is one row
    number bigint  NOT NULL, -- number of the last entry, 0 before the first
    hash   bytea   NOT NULL  -- its hash
) WITH (fillfactor = 50);

INSERT INTO audit_end (id, number, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'));

CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are never changed nor removed';
END
$$;

CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_stays();
