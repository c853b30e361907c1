-- What the archive keeps beside journal and calls: facts and calls that are not there, what
-- providers sent, interval statistics, results of reports.

CREATE TABLE archive_items (
    kind    TEXT    NOT NULL, -- fact, call, payload, interval or report
    id      TEXT    NOT NULL, -- unique among its kind
    subject TEXT    NOT NULL, -- what it is about: an entity, a scope with a length, a report's name
    place   INTEGER NOT NULL, -- place among the things about its subject
    at      INTEGER NOT NULL, -- when it happened, milliseconds since 1970 UTC
    name    TEXT    NOT NULL, -- type of a fact, else empty
    body    TEXT    NOT NULL, -- content as JSON
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX archive_items_about ON archive_items (kind, subject, place, id);
CREATE INDEX archive_items_by_time ON archive_items (kind, at, id);
