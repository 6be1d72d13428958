-- The history of the recurring entries: the newest runs of each, in the order of writing.
-- due_at is the due time; fired_at is when a worker dealt with the run; outcome is a RunOutcome.
CREATE TABLE deeper_schedule_run (
    number   INTEGER NOT NULL PRIMARY KEY,
    name     TEXT    NOT NULL,
    due_at   INTEGER NOT NULL,
    fired_at INTEGER NOT NULL,
    outcome  TEXT    NOT NULL,
    job      TEXT
) STRICT;

CREATE INDEX deeper_schedule_run_newest ON deeper_schedule_run (name, number);
