-- States: 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.

-- Whether hints may be sent. While a listener stays in a transaction, the server's queue of notifications fills up;
-- once it is full, a transaction that sends one more fails at its commit. This question also makes the server free the
-- notifications that every listener has read; a server whose queue is full does so at no other moment.
CREATE FUNCTION have_hints_room() RETURNS boolean
LANGUAGE sql VOLATILE
AS 'SELECT pg_notification_queue_usage() < 0.5';

-- Inserts jobs: each id once, and each unique key for one job. Answers only for the places (from 1) that led to no new
-- job, with the id of the job that was there before or that holds the key.
--
-- The function is volatile, so each of its statements sees what was committed when that statement began, also after it
-- waited for a key of another transaction. Its settings leave the planner one plan, whatever the statistics are.
--
-- Errors: DT001: the id in the message is there with another task or other arguments. DT002: this is another store than
-- the caller expects. DT003: the transaction's snapshot is older than the store. 40001 or 23505: another transaction
-- inserts or ends the same job at this moment; try again. The ids have no ON CONFLICT clause: it would log each row a
-- second time, for a case that almost never happens.
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
    -- by place: whether no job has this id yet; whether no other job holds its unique key
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

        -- A new statement: the one before cannot see a holder for which it had waited.
        SELECT
            array_agg(sent.key IS NULL OR unique_key.holder = sent.id ORDER BY sent.place),
            min(sent.key) FILTER (WHERE sent.key IS NOT NULL AND unique_key.key IS NULL AND _is_fresh[sent.place])
        INTO _is_free, _conflict
        FROM unnest(_ids, _keys) WITH ORDINALITY AS sent (id, key, place)
        LEFT JOIN unique_key ON unique_key.key = sent.key;
        IF _conflict IS NOT NULL THEN
            RAISE EXCEPTION 'a unique key was freed meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN QUERY
        SELECT sent.place::integer, unique_key.holder::text
        FROM unnest(_keys) WITH ORDINALITY AS sent (key, place)
        JOIN unique_key ON unique_key.key = sent.key
        WHERE _is_fresh[sent.place] AND NOT _is_free[sent.place];
    END IF;

    WITH fresh AS MATERIALIZED (
        -- No moment lies beyond the last one that Python's datetime can show in every zone (end_of_time.py).
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
    ), notified AS (
        SELECT pg_notify(_channel, CASE counted.after WHEN 3 THEN 'jobs:' || counted.queue ELSE 'schedules:' END)
        FROM counted
        WHERE _channel IS NOT NULL AND (SELECT have_hints_room())
    )
    SELECT count(*) FROM notified INTO _count;
END;
$$;

-- Inserts jobs in a transaction of its own, and sends their hints in a second one, which waits for no disk:
-- notifications hold a lock of the whole server until their transaction has committed, and in one transaction that
-- would be until the disk has confirmed the jobs. No hint is sent if no job is new, or if the server's queue of
-- notifications is more than half full. If other sessions fill the rest at that moment, the call fails, but the jobs
-- are there. Answers as insert_jobs does, in two arrays.
--
-- A procedure that commits may have no search path of its own, so it calls the functions by their full names.
DO LANGUAGE plpgsql $make$
BEGIN
    EXECUTE format($text$
        CREATE PROCEDURE insert_and_notify(
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
