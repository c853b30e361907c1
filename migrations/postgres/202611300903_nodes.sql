-- The nodes that may write. Each batch of the journal holds a shared lock on the row of its node.

CREATE TABLE nodes (
    node_id     text   NOT NULL PRIMARY KEY, -- name of the node in the configuration
    incarnation uuid   NOT NULL, -- one run of the program; a later run has another
    status      text   NOT NULL CHECK (status IN ('alive', 'dead')), -- dead is for good
    lease_until bigint NOT NULL  -- when others may declare it dead, milliseconds since 1970 UTC; renewed by each beat
) WITH (fillfactor = 50); -- no index holds what a beat changes, so a beat stays within the page
