-- The states are the codes of backends/codes.py:
-- 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.
-- Documents are text with JSON in it, not jsonb: jsonb refuses \u0000, and the whole batch would fail with it.

-- The names of queues are ordered by code point, as in the application, whatever the language of the database: a
-- pattern matches a range of them.

-- Columns that never change come first: an update logs a row from its first byte that differs. The fill factor leaves
-- room for the next version of a row on the same page; a version on another page is logged as a whole.
CREATE TABLE job (
    id                    uuid        NOT NULL PRIMARY KEY,
    inserted_at           timestamptz NOT NULL,
    original_max_attempts integer     NOT NULL CHECK (original_max_attempts >= 1),
    max_attempts          integer     NOT NULL CHECK (max_attempts >= 1),
    priority              smallint    NOT NULL,
    queue                 text        COLLATE "C" NOT NULL,
    task                  text        NOT NULL,
    arguments             text        NOT NULL,
    options               text,
    unique_key            text,
    expires_at            timestamptz,
    scheduled_at          timestamptz NOT NULL,
    state                 smallint    NOT NULL CHECK (state BETWEEN 1 AND 9),
    attempt               integer     NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- the number of the node that claimed it last
    node                  integer,
    -- kept after the settle, so that a settle that is sent twice is recognised
    token                 text,
    -- the state that the settle of this token led to; NULL while the job is running, and for a completed job, whose
    -- state never changes again
    led_to                smallint,
    attempted_at          timestamptz,
    finished_at           timestamptz,
    -- the first release because the task was unknown; because its arguments did not fit. NULL once the handler ran
    unknown_since         timestamptz,
    unfit_since           timestamptz,
    -- whether the last handler was started, and lost with its process; NULL: it was not
    is_quarantined        boolean,
    cancel_requested      text,
    progress              text,
    -- each entry a JSON string
    log                   text[],
    -- each entry the JSON array [attempt, moment, error]
    errors                text[],
    result                text,
    result_omitted        text
) WITH (
    fillfactor = 50,
    -- dead versions of rows are cleaned up early, not when they are a fifth of the table
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

-- Each statement of the hot path must have one index that fits it, and no other: the planner takes an index for free if
-- it was empty at the last ANALYZE, even when thousands of entries were added since.
CREATE INDEX job_pending ON job (queue, priority, scheduled_at, id) WHERE state = 3;
CREATE INDEX job_due ON job (scheduled_at, id) WHERE state IN (1, 5);
CREATE INDEX job_running ON job (node, token) WHERE state = 4;
CREATE INDEX job_expiring ON job (expires_at) WHERE expires_at IS NOT NULL AND state IN (3, 5);
CREATE INDEX job_ended ON job (queue, state, finished_at) WHERE finished_at IS NOT NULL;

-- For lists; see index_ranges.py. An ordinary job, due at once, enters only the first of these indexes, when it ends.
-- The others hold jobs that wait for their time, that were not due at once, or that were put off. "state + 0" keeps
-- every other statement from using them.
CREATE INDEX job_ended_at_once ON job (queue, state, inserted_at)
    WHERE finished_at IS NOT NULL AND scheduled_at = inserted_at;
CREATE INDEX job_moved ON job (queue, state, inserted_at)
    WHERE state + 0 <> 4 AND (scheduled_at <> inserted_at OR state + 0 IN (1, 2, 5));
CREATE INDEX job_moved_to ON job (queue, state, scheduled_at)
    WHERE state + 0 NOT IN (3, 4) AND (scheduled_at <> inserted_at OR state + 0 IN (1, 2, 5));

-- Bucket 0: the number of jobs by queue and state. Other buckets: the jobs that ended, by queue, state and ten minutes,
-- counted from 1970 in UTC.
CREATE TABLE counter (
    queue  text     COLLATE "C" NOT NULL,
    state  smallint NOT NULL,
    bucket integer  NOT NULL,
    count  bigint   NOT NULL,
    PRIMARY KEY (bucket, queue, state)
) WITH (fillfactor = 50);

-- Changes that the counters do not include yet. The transactions that change jobs append them, so that none waits for
-- another, and the maintainers fold them into the counters. before is NULL for an insert, after for a deletion.
--
-- Every table has a primary key: in a publication (logical replication) a row without an identity cannot be deleted. No
-- key comes from a sequence: a logical copy lacks the values of the sequences, and would use numbers a second time. The
-- moment comes first in the key, so that the index has the order of the table and a scan of all rows is cheap.
CREATE TABLE move (
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- not a uuid, which would ask the operating system for strong randomness each time
    salt     bigint      NOT NULL DEFAULT (random() * 9007199254740992)::bigint,
    queue    text        COLLATE "C" NOT NULL,
    before   smallint,
    after    smallint,
    bucket   integer     NOT NULL,
    count    integer     NOT NULL,
    PRIMARY KEY (moved_at, salt)
) WITH (
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_vacuum_cost_delay = 0
);

-- A key without expires_at is held until its holder ends or is deleted.
CREATE TABLE unique_key (
    key        text NOT NULL PRIMARY KEY,
    holder     uuid NOT NULL,
    expires_at timestamptz
);

CREATE INDEX unique_key_expiring ON unique_key (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE node (
    id            text        NOT NULL PRIMARY KEY,
    -- the number by which jobs name the node. It is random: a sequence would begin again in a logical copy
    number        integer     NOT NULL UNIQUE,
    document      text        NOT NULL,
    beat          bigint      NOT NULL DEFAULT 0,
    busy          integer     NOT NULL DEFAULT 0,
    registered_at timestamptz NOT NULL,
    beat_at       timestamptz NOT NULL,
    is_lost       boolean     NOT NULL DEFAULT false,
    -- the names of the tasks that the node knows; NULL if it did not give them
    tasks         text[]
) WITH (fillfactor = 50);

CREATE TABLE queue (
    name      text COLLATE "C" NOT NULL PRIMARY KEY,
    paused_at timestamptz
);

CREATE TABLE schedule (
    name      text        NOT NULL PRIMARY KEY,
    document  text        NOT NULL,
    next_run  timestamptz NOT NULL,
    last_run  timestamptz,
    last_job  uuid,
    paused_at timestamptz
);

-- Entries that were removed while the application declared them: a worker that declares the same definition again does
-- not bring the entry back.
CREATE TABLE removed_schedule (
    name     text NOT NULL PRIMARY KEY,
    document text NOT NULL
);

-- The history of the recurring entries: the newest runs of each, numbered in the order in which they were written.
-- due_at is the due time, fired_at the moment when a worker fired the run, outcome a RunOutcome.
CREATE TABLE schedule_run (
    name     text        NOT NULL,
    number   bigint      NOT NULL,
    due_at   timestamptz NOT NULL,
    fired_at timestamptz NOT NULL,
    outcome  text        NOT NULL,
    job      uuid,
    PRIMARY KEY (name, number)
);

-- The tags in a job's options, each as a JSON string. NULL if the job has no options, or if they cannot be read.
CREATE FUNCTION tags_of(_options text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT
AS $$
BEGIN
    RETURN ARRAY (SELECT tag.value::text FROM json_array_elements(_options::json -> 'tags') AS tag);
EXCEPTION WHEN others THEN
    RETURN NULL;
END;
$$;

-- The path in a job's options. NULL if they have none, or if they cannot be read.
CREATE FUNCTION path_of(_options text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
AS $$
BEGIN
    RETURN _options::json ->> 'path';
EXCEPTION WHEN others THEN
    RETURN NULL;
END;
$$;

-- Identifies this store: the transaction of an application may be in another database.
CREATE TABLE store (
    id         uuid        NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO store DEFAULT VALUES;
