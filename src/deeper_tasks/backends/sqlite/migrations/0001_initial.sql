-- Times are microseconds since 1970 (UTC). States are the codes of backends/codes.py:
-- 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.

CREATE TABLE deeper_job (
    id                    TEXT    NOT NULL PRIMARY KEY,
    state                 INTEGER NOT NULL CHECK (state BETWEEN 1 AND 9),
    task                  TEXT    NOT NULL,
    arguments             TEXT    NOT NULL,
    queue                 TEXT    NOT NULL,
    priority              INTEGER NOT NULL,
    attempt               INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts          INTEGER NOT NULL CHECK (max_attempts >= 1),
    original_max_attempts INTEGER NOT NULL CHECK (original_max_attempts >= 1),
    inserted_at           INTEGER NOT NULL,
    scheduled_at          INTEGER NOT NULL,
    attempted_at          INTEGER,
    finished_at           INTEGER,
    expires_at            INTEGER,
    node                  TEXT,
    -- stays after the settle, so that a settle that is sent twice is recognised
    token                 TEXT,
    -- the state that the settle of this token led to; unused while the job runs, and once it has completed
    led_to                INTEGER,
    -- when the job was first released because its task was unknown, or its arguments did not fit; NULL once its handler ran
    unknown_since         INTEGER,
    unfit_since           INTEGER,
    -- 1: the last handler was started and lost with its process; NULL: it was not
    is_quarantined        INTEGER,
    options               TEXT,
    unique_key            TEXT,
    cancel_requested      TEXT,
    progress              TEXT,
    log                   TEXT,
    errors                TEXT,
    result                TEXT,
    result_omitted        TEXT
) STRICT;

CREATE INDEX deeper_job_pending ON deeper_job (queue, priority, scheduled_at, id) WHERE state = 3;
CREATE INDEX deeper_job_due ON deeper_job (scheduled_at, id) WHERE state IN (1, 5);
CREATE INDEX deeper_job_running ON deeper_job (node, token) WHERE state = 4;
CREATE INDEX deeper_job_expiring ON deeper_job (expires_at) WHERE expires_at IS NOT NULL AND state IN (3, 5);
CREATE INDEX deeper_job_ended ON deeper_job (state, finished_at, id) WHERE state >= 6;
CREATE INDEX deeper_job_inserted ON deeper_job (inserted_at, id);

-- Jobs by queue and state (bucket 0), and jobs that ended by queue, state and ten minutes since 1970 (UTC).
CREATE TABLE deeper_counter (
    queue  TEXT    NOT NULL,
    state  INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (bucket, queue, state)
) STRICT, WITHOUT ROWID;

-- A key without expires_at is held until its holder ends or is deleted.
CREATE TABLE deeper_unique_key (
    key        TEXT NOT NULL PRIMARY KEY,
    holder     TEXT NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX deeper_unique_key_expiring ON deeper_unique_key (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE deeper_node (
    id            TEXT    NOT NULL PRIMARY KEY,
    document      TEXT    NOT NULL,
    beat          INTEGER NOT NULL DEFAULT 0,
    busy          INTEGER NOT NULL DEFAULT 0,
    registered_at INTEGER NOT NULL,
    beat_at       INTEGER NOT NULL,
    is_lost       INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The names of the tasks that a worker knows, as a JSON array. A worker that does not report them has no row. The table
-- is apart from the nodes because the row of a node is written with every beat.
CREATE TABLE deeper_node_tasks (
    node  TEXT NOT NULL PRIMARY KEY,
    tasks TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER deeper_node_gone AFTER DELETE ON deeper_node BEGIN
    DELETE FROM deeper_node_tasks WHERE node = old.id;
END;

CREATE TABLE deeper_queue (
    name      TEXT NOT NULL PRIMARY KEY,
    paused_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE deeper_schedule (
    name      TEXT    NOT NULL PRIMARY KEY,
    document  TEXT    NOT NULL,
    next_run  INTEGER NOT NULL,
    last_run  INTEGER,
    last_job  TEXT,
    paused_at INTEGER
) STRICT, WITHOUT ROWID;

-- The definitions of entries that were removed while the application declared them: a worker that declares the same
-- definition again does not bring the entry back.
CREATE TABLE deeper_removed_schedule (
    name     TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
