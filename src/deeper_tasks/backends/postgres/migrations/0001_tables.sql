-- States are the codes of backends/codes.py:
-- 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.
-- Documents are text that holds JSON, not jsonb, which refuses \u0000 and with it the whole batch.

-- The names of queues are ordered by code point, as in the application, whatever the language of the database: a pattern
-- is a range of them.

-- First what stays and then what changes: an update logs the bytes from the first that differs. And every version of a
-- row wants room beside the one before, or it logs the whole of it.
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
    -- stays after the settle, so that a settle sent twice is recognised
    token                 text,
    -- the state that the settle of this token led to, unless the job is running or completed: no state follows on that
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
    -- the dead versions of a queue are wanted back soon, not when they are a fifth of the table
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

-- No index may serve a statement of the hot path but the one that is meant for it: the planner takes an index that
-- was empty at the last ANALYZE for free, also when it has grown by thousands since.
CREATE INDEX job_pending ON job (queue, priority, scheduled_at, id) WHERE state = 3;
CREATE INDEX job_due ON job (scheduled_at, id) WHERE state IN (1, 5);
CREATE INDEX job_running ON job (node, token) WHERE state = 4;
CREATE INDEX job_expiring ON job (expires_at) WHERE expires_at IS NOT NULL AND state IN (3, 5);
CREATE INDEX job_ended ON job (queue, state, finished_at) WHERE finished_at IS NOT NULL;

-- For lists; see lines.py. An ordinary job, due at once, enters only the first, and when it has ended; the others hold
-- what waits for its time, and what was not due at once or was put off. "state + 0": no other statement can use them.
CREATE INDEX job_ended_at_once ON job (queue, state, inserted_at)
    WHERE finished_at IS NOT NULL AND scheduled_at = inserted_at;
CREATE INDEX job_moved ON job (queue, state, inserted_at)
    WHERE state + 0 <> 4 AND (scheduled_at <> inserted_at OR state + 0 IN (1, 2, 5));
CREATE INDEX job_moved_to ON job (queue, state, scheduled_at)
    WHERE state + 0 NOT IN (3, 4) AND (scheduled_at <> inserted_at OR state + 0 IN (1, 2, 5));

-- Jobs by queue and state (bucket 0), and jobs that ended by queue, state and ten minutes since 1970 (UTC).
CREATE TABLE counter (
    queue  text     COLLATE "C" NOT NULL,
    state  smallint NOT NULL,
    bucket integer  NOT NULL,
    count  bigint   NOT NULL,
    PRIMARY KEY (bucket, queue, state)
) WITH (fillfactor = 50);

-- What the counters are behind: appended by the transactions that move jobs, so that none waits for another, and
-- folded into the counters by the maintainers. NULL before: inserted; NULL after: deleted.
--
-- Every table has a primary key: under a publication (logical replication) no row can be deleted that has no identity.
-- None comes from a sequence: a logical copy lacks the sequences' values, and would give numbers a second time. The moment
-- keeps the index in the order of the table, in which a scan of all is cheap.
CREATE TABLE move (
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- not a uuid, which asks the system for strong randomness each time
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
    -- by which jobs name it. Drawn at random: a sequence may begin anew, for a logical copy comes without its value
    number        integer     NOT NULL UNIQUE,
    document      text        NOT NULL,
    beat          bigint      NOT NULL DEFAULT 0,
    busy          integer     NOT NULL DEFAULT 0,
    registered_at timestamptz NOT NULL,
    beat_at       timestamptz NOT NULL,
    is_lost       boolean     NOT NULL DEFAULT false,
    -- the names of the tasks that it knows; NULL: it does not tell them
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

-- The definitions of entries that were removed while the code declared them: a worker that declares the same again is
-- not followed.
CREATE TABLE removed_schedule (
    name     text NOT NULL PRIMARY KEY,
    document text NOT NULL
);

-- The history of the recurring entries: the newest runs of each, numbered in the order of writing.
-- due_at is the due time, fired_at when a worker dealt with it; outcome is a RunOutcome.
CREATE TABLE schedule_run (
    name     text        NOT NULL,
    number   bigint      NOT NULL,
    due_at   timestamptz NOT NULL,
    fired_at timestamptz NOT NULL,
    outcome  text        NOT NULL,
    job      uuid,
    PRIMARY KEY (name, number)
);

-- The tags in a job's options, each as a JSON string. NULL: it has no options, or they cannot be read.
CREATE FUNCTION tags_of(_options text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT
AS $$
BEGIN
    RETURN ARRAY (SELECT tag.value::text FROM json_array_elements(_options::json -> 'tags') AS tag);
EXCEPTION WHEN others THEN
    RETURN NULL;
END;
$$;

-- The path in a job's options. NULL: it has none, or they cannot be read.
CREATE FUNCTION path_of(_options text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
AS $$
BEGIN
    RETURN _options::json ->> 'path';
EXCEPTION WHEN others THEN
    RETURN NULL;
END;
$$;

-- Tells this store from every other: a transaction of an application's may be in another database.
CREATE TABLE store (
    id         uuid        NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO store DEFAULT VALUES;
