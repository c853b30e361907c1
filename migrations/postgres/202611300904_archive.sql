-- What the archive keeps beside journal and calls when it is this database: facts and calls that
-- are not there, what providers sent, interval statistics, results of reports.

CREATE TABLE archive_items (
    kind    text   NOT NULL, -- fact, call, payload, interval or report
    id      text   COLLATE "C" NOT NULL, -- unique among its kind
    subject text   NOT NULL, -- what it is about: an entity, a scope with a length, a report's name
    place   bigint NOT NULL, -- place among the things about its subject
    at      bigint NOT NULL, -- when it happened, milliseconds since 1970 UTC
    name    text   NOT NULL, -- type of a fact, else empty
    body    text   NOT NULL, -- content as JSON
    PRIMARY KEY (kind, id)
);

CREATE INDEX archive_items_about ON archive_items (kind, subject, place, id);
CREATE INDEX archive_items_by_time ON archive_items (kind, at, id);
