-- Whether hints may be sent. A listener that stays in a transaction lets the server's queue of notifications fill up, and
-- a transaction that would send one more then fails at its commit. Asking also frees what every listener has read, which
-- a server whose queue is full does at no other moment.
CREATE FUNCTION have_hints_room() RETURNS boolean
LANGUAGE sql VOLATILE
AS 'SELECT pg_notification_queue_usage() < 0.5';

-- Inserts jobs, each id once and each unique key held by one. Answers only for the places (from 1) where no new job
-- came of it, with the id of the job that is there or that holds the key.
--
-- A volatile function: each statement sees what was committed when it began, also after it waited for another's key.
-- The settings leave the planner no choice, whatever its statistics say.
--
-- Errors: DT001, an id, which is the message, is there with another task or other arguments; DT002, this is not the
-- store that was meant; DT003, the transaction's snapshot is older than the store; 40001 or 23505, another transaction inserts or ends the same at this moment, try again. No ON CONFLICT for
-- the ids: it would log each row a second time, for what almost never happens.
CREATE FUNCTION insert_jobs(
    _store uuid,
    _channel text,
    _now timestamptz,
    _ids uuid[],
    _tasks text[],
    _arguments text[],
    _queues text[],
    _priorities smallint[],
    _max_attempts integer[],
    _dues timestamptz[],
    _delays bigint[],
    _expiries bigint[],
    _options text[],
    _keys text[],
    _periods bigint[]
)
RETURNS TABLE (place integer, id text)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET jit = off SET max_parallel_workers_per_gather = 0 SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    _moment timestamptz := coalesce(_now, clock_timestamp());
    -- by place, whether a new job is to come of it
    _is_fresh boolean[];
    _is_free boolean[];
    _conflict text;
    _count integer;
BEGIN
    IF NOT EXISTS (SELECT FROM store WHERE store.id = _store) THEN
        IF NOT EXISTS (SELECT FROM store) THEN
            RAISE EXCEPTION 'an older snapshot' USING ERRCODE = 'DT003';
        END IF;
        RAISE EXCEPTION 'another store' USING ERRCODE = 'DT002';
    END IF;

    SELECT
        array_agg(job.id IS NULL ORDER BY sent.place),
        min(job.id::text) FILTER (WHERE job.task <> sent.task OR job.arguments <> sent.arguments)
    INTO _is_fresh, _conflict
    FROM unnest(_ids, _tasks, _arguments) WITH ORDINALITY AS sent (id, task, arguments, place)
    LEFT JOIN job ON job.id = sent.id;
    IF _conflict IS NOT NULL THEN
        RAISE EXCEPTION '%', _conflict USING ERRCODE = 'DT001';
    END IF;
    IF false = ANY (_is_fresh) THEN
        RETURN QUERY
        SELECT sent.place::integer, sent.id::text
        FROM unnest(_ids) WITH ORDINALITY AS sent (id, place)
        WHERE NOT _is_fresh[sent.place];
    END IF;

    IF _keys IS NOT NULL THEN
        DELETE FROM unique_key WHERE unique_key.key = ANY (_keys) AND unique_key.expires_at <= _moment;
        INSERT INTO unique_key (key, holder, expires_at)
        SELECT DISTINCT ON (sent.key) sent.key, sent.id,
            CASE WHEN sent.period IS NOT NULL
                THEN least(_moment + sent.period * interval '1 microsecond', '9999-12-30 00:00+00')
            END
        FROM unnest(_ids, _keys, _periods) WITH ORDINALITY AS sent (id, key, period, place)
        WHERE sent.key IS NOT NULL AND _is_fresh[sent.place]
        ORDER BY sent.key, sent.place
        ON CONFLICT (key) DO NOTHING;

        -- A fresh look: in the statement before, a holder that it had waited for cannot be seen.
        SELECT
            array_agg(sent.key IS NULL OR unique_key.holder = sent.id ORDER BY sent.place),
            min(sent.key) FILTER (WHERE sent.key IS NOT NULL AND unique_key.key IS NULL AND _is_fresh[sent.place])
        INTO _is_free, _conflict
        FROM unnest(_ids, _keys) WITH ORDINALITY AS sent (id, key, place)
        LEFT JOIN unique_key ON unique_key.key = sent.key;
        IF _conflict IS NOT NULL THEN
            RAISE EXCEPTION 'a unique key was let go of' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN QUERY
        SELECT sent.place::integer, unique_key.holder::text
        FROM unnest(_keys) WITH ORDINALITY AS sent (key, place)
        JOIN unique_key ON unique_key.key = sent.key
        WHERE _is_fresh[sent.place] AND NOT _is_free[sent.place];
    END IF;

    WITH fresh AS MATERIALIZED (
        -- No moment lies beyond the last that Python's datetime has in every zone (end_of_time.py).
        SELECT sent.*, greatest(
            _moment,
            least(coalesce(sent.due, _moment + sent.delay * interval '1 microsecond'), '9999-12-30 00:00+00')
        ) AS due_at
        FROM unnest(
            _ids, _tasks, _arguments, _queues, _priorities, _max_attempts, _dues, _delays, _expiries, _options, _keys
        ) WITH ORDINALITY AS sent (
            id, task, arguments, queue, priority, max_attempts, due, delay, expiry, options, key, place
        )
        WHERE _is_fresh[sent.place] AND coalesce(_is_free[sent.place], true)
        ORDER BY sent.id
    ), inserted AS (
        INSERT INTO job (
            id, inserted_at, scheduled_at, expires_at, max_attempts, original_max_attempts, state, priority, queue,
            task, arguments, options, unique_key
        )
        SELECT
            fresh.id, _moment, fresh.due_at,
            CASE WHEN fresh.expiry IS NOT NULL
                THEN least(fresh.due_at + fresh.expiry * interval '1 microsecond', '9999-12-30 00:00+00')
            END,
            fresh.max_attempts, fresh.max_attempts, CASE WHEN fresh.due_at <= _moment THEN 3 ELSE 1 END, fresh.priority,
            fresh.queue, fresh.task, fresh.arguments, fresh.options, fresh.key
        FROM fresh
        RETURNING queue, state
    ), counted AS (
        INSERT INTO move (queue, after, bucket, count)
        SELECT queue, state, 0, count(*) FROM inserted GROUP BY queue, state
        RETURNING queue, after, count
    ), told AS (
        SELECT pg_notify(_channel, CASE counted.after WHEN 3 THEN 'jobs:' || counted.queue ELSE 'schedules:' END)
        FROM counted
        WHERE _channel IS NOT NULL AND (SELECT have_hints_room())
    )
    SELECT count(*) FROM told INTO _count;
END;
$$;

-- Inserts jobs by themselves, and sends the hints of them once they are there: in a transaction of its own, which waits
-- for no disk. Together they would hold a lock of the whole server while the disk confirms the jobs. None is sent where
-- nothing came of the jobs, or where the server's queue of notifications is more than half full; should others fill the
-- rest at this moment, the error is one of jobs that are there. Answers as insert_jobs does, in two arrays.
--
-- What commits may have no search path of its own, so the function that it calls is named in full.
DO LANGUAGE plpgsql $make$
BEGIN
    EXECUTE format($text$
        CREATE PROCEDURE insert_and_tell(
            _hints text[],
            _store uuid,
            _channel text,
            _now timestamptz,
            _ids uuid[],
            _tasks text[],
            _arguments text[],
            _queues text[],
            _priorities smallint[],
            _max_attempts integer[],
            _dues timestamptz[],
            _delays bigint[],
            _expiries bigint[],
            _options text[],
            _keys text[],
            _periods bigint[],
            OUT _places integer[],
            OUT _others text[]
        )
        LANGUAGE plpgsql
        AS $$
        BEGIN
            SELECT array_agg(refused.place), array_agg(refused.id)
            INTO _places, _others
            FROM %1$I.insert_jobs(
                _store, NULL, _now, _ids, _tasks, _arguments, _queues, _priorities, _max_attempts, _dues, _delays,
                _expiries, _options, _keys, _periods
            ) AS refused;
            COMMIT;
            IF _places IS NULL OR cardinality(_places) < cardinality(_ids) THEN
                IF %1$I.have_hints_room() THEN
                    PERFORM pg_notify(_channel, hint) FROM unnest(_hints) AS sent (hint);
                END IF;
            END IF;
        END;
        $$
    $text$, current_schema());
END;
$make$;
