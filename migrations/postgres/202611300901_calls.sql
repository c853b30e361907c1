-- The current summary of every call: what lists show. Columns hold what lists filter and sort by.

CREATE TABLE calls (
    started_at   bigint  NOT NULL, -- when it arrived or was started, milliseconds since 1970 UTC
    id           uuid    NOT NULL PRIMARY KEY, -- the call
    queue_id     uuid,             -- the queue it waits or waited in last
    agent_id     uuid,             -- the agent who has or had it last
    is_open      boolean NOT NULL, -- whether the call is not over
    direction    text    NOT NULL, -- inbound or outbound
    from_address text    NOT NULL, -- who started the call
    to_address   text    NOT NULL, -- who was called
    state        text    NOT NULL, -- where it stands: received queued offered connected …
    status       text    NOT NULL, -- the same in the words of carriers: queued ringing completed …
    summary      text    NOT NULL  -- the whole summary as JSON
) WITH (fillfactor = 70); -- room to change a row within its page, which spares the indexes

-- Lists are read newest first, whole or by one of these; the id decides between equal starts.
CREATE INDEX calls_by_start ON calls (started_at, id);
CREATE INDEX calls_by_from ON calls (from_address, started_at, id);
CREATE INDEX calls_by_to ON calls (to_address, started_at, id);
CREATE INDEX calls_by_queue ON calls (queue_id, started_at, id) WHERE queue_id IS NOT NULL;
CREATE INDEX calls_by_agent ON calls (agent_id, started_at, id) WHERE agent_id IS NOT NULL;
CREATE INDEX calls_open ON calls (started_at, id) WHERE is_open;
