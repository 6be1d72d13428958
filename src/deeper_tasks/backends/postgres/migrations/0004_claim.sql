-- States: 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.

-- The number of attempts that a claimed job had used when an operator last retried it. NULL when the numbers of its row
-- are not valid ones.
CREATE FUNCTION earlier_attempts(_attempt integer, _max_attempts integer, _original_max_attempts integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN _attempt >= 1 AND _max_attempts >= 1 AND _original_max_attempts >= 1
        THEN _max_attempts - _original_max_attempts
    END
$$;

-- Marks pending jobs of a queue running, or with _queue NULL those of a pattern's queues, in one statement; see `claim`
-- in the protocol.
--
-- Two locks are held until the end of the statement. One is on the token: a claim that is sent twice at once happens
-- once, and the second answers with the jobs that the first took. The other is on the node, shared: a rescue takes it
-- exclusively, so it comes either before the claim, which then sees that the node is lost, or after it, and then sees
-- the jobs that the claim took.
--
-- While a long transaction of another session keeps the dead rows of earlier claims, a search from the start of the
-- index reads all of them. With _priorities and _floors the search begins in each priority at the due time that the
-- claims have reached; see claim_floor.py.
--
-- Of the quarantined jobs only the first _quarantined are taken: when the search found more, it is made once more and
-- skips the others.
--
-- To read a moment costs a client more than most values: scheduled_at is NULL if it equals inserted_at, and claimed_at
-- is in the first row only, as is passed_by.
--
-- Every answer has a row. A row without an id says why there are no jobs: 'lost', 'paused', or NULL when none is
-- pending. passed_by: how many entries of the index the search read in vain. It is a count, because a duration would
-- blame dead rows for the delays of a busy machine.
CREATE FUNCTION claim(
    _queue text,
    _limit integer,
    _slots integer,
    _node text,
    _token text,
    _quarantined integer,
    _now timestamptz,
    _priorities smallint[],
    _floors timestamptz[],
    _prefix text DEFAULT NULL,
    _after text DEFAULT NULL,
    _excluded text[] DEFAULT NULL,
    _excluded_prefixes text[] DEFAULT NULL,
    _known text[] DEFAULT NULL,
    _known_from integer[] DEFAULT NULL,
    _known_to integer[] DEFAULT NULL,
    _highs smallint[] DEFAULT NULL
)
RETURNS TABLE (
    id text,
    queue text,
    task text,
    arguments text,
    priority smallint,
    attempt integer,
    max_attempts integer,
    inserted_at timestamptz,
    scheduled_at timestamptz,
    claimed_at timestamptz,
    expires_at timestamptz,
    has_started boolean,
    unknown_since timestamptz,
    unfit_since timestamptz,
    is_quarantined boolean,
    earlier_attempts integer,
    options text,
    obstacle text,
    passed_by bigint
)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET enable_sort = off SET enable_material = off SET jit = off SET max_parallel_workers_per_gather = 0
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    _moment timestamptz := coalesce(_now, clock_timestamp());
    _number integer;
    _obstacle text;
    _chosen uuid[];
    _queues text[];
    _counts integer[];
    _in_quarantine uuid[];
    _admitted uuid[] := CASE WHEN _quarantined <= 0 THEN '{}' END;
    _passed_by bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(_token, 0));
    SELECT node.number INTO _number FROM node WHERE node.id = _node;
    PERFORM pg_advisory_xact_lock_shared(1684366704, _number);
    IF NOT EXISTS (SELECT FROM node WHERE node.id = _node AND NOT node.is_lost) THEN
        _obstacle := 'lost';
    ELSE
        RETURN QUERY
        SELECT
            job.id::text, CASE WHEN _queue IS NULL THEN job.queue END, job.task, job.arguments, job.priority,
            job.attempt, job.max_attempts, job.inserted_at, nullif(job.scheduled_at, job.inserted_at), _moment,
            job.expires_at,
            job.attempted_at IS NOT NULL, job.unknown_since, job.unfit_since, job.is_quarantined IS NOT NULL,
            earlier_attempts(job.attempt, job.max_attempts, job.original_max_attempts), job.options, NULL::text,
            0::bigint
        FROM job
        WHERE job.state = 4 AND job.node = _number AND job.token = _token
        ORDER BY job.priority, job.scheduled_at, job.id;
        IF FOUND THEN
            RETURN;
        END IF;
        IF EXISTS (SELECT FROM queue WHERE queue.name = _queue AND queue.paused_at IS NOT NULL) THEN
            _obstacle := 'paused';
        END IF;
    END IF;

    IF _obstacle IS NULL THEN
        _passed_by := pg_stat_get_xact_tuples_returned('job_pending'::regclass);
        LOOP
            IF _queue IS NULL THEN
                SELECT nullif(turn.chosen, '{}'), turn.queues, turn.counts
                INTO _chosen, _queues, _counts
                FROM lock_in_turn(
                    _prefix, _after, _excluded, _excluded_prefixes, _limit, _admitted, _moment, _known, _known_from,
                    _known_to, _priorities, _floors, _highs
                ) AS turn;
                EXIT WHEN _admitted IS NOT NULL;
                _in_quarantine := ARRAY (
                    SELECT job.id
                    FROM unnest(_chosen) WITH ORDINALITY AS chosen (id, place)
                    CROSS JOIN LATERAL (SELECT job.id FROM job WHERE job.id = chosen.id AND job.is_quarantined) AS job
                    ORDER BY chosen.place
                );
            ELSIF _floors IS NULL THEN
                SELECT array_agg(first.id), array_agg(first.id) FILTER (WHERE first.is_quarantined)
                INTO _chosen, _in_quarantine
                FROM (
                    SELECT job.id, job.is_quarantined
                    FROM job
                    WHERE job.state = 3 AND job.queue = _queue AND (job.expires_at IS NULL OR job.expires_at > _moment)
                        AND (_admitted IS NULL OR job.is_quarantined IS NULL OR job.id = ANY (_admitted))
                    ORDER BY job.priority, job.scheduled_at, job.id
                    LIMIT _limit
                    FOR NO KEY UPDATE SKIP LOCKED
                ) AS first;
            ELSE
                SELECT array_agg(first.id), array_agg(first.id) FILTER (WHERE first.is_quarantined)
                INTO _chosen, _in_quarantine
                FROM (
                    SELECT pending.id, pending.is_quarantined
                    FROM generate_series(-100, 100) AS of (priority)
                    CROSS JOIN LATERAL (
                        SELECT job.id, job.is_quarantined
                        FROM job
                        WHERE job.state = 3 AND job.queue = _queue
                            AND (job.expires_at IS NULL OR job.expires_at > _moment)
                            AND (_admitted IS NULL OR job.is_quarantined IS NULL OR job.id = ANY (_admitted))
                            AND job.priority = of.priority::smallint
                            AND job.scheduled_at >= coalesce(
                                _floors[array_position(_priorities, of.priority::smallint)], '-infinity'
                            )
                        ORDER BY job.scheduled_at, job.id
                        LIMIT _limit
                        FOR NO KEY UPDATE SKIP LOCKED
                    ) AS pending
                    LIMIT _limit
                ) AS first;
            END IF;
            EXIT WHEN _in_quarantine IS NULL OR cardinality(_in_quarantine) <= _quarantined;
            _admitted := _in_quarantine[: _quarantined];
        END LOOP;
        _passed_by := pg_stat_get_xact_tuples_returned('job_pending'::regclass) - _passed_by
            - coalesce(cardinality(_chosen), 0);
    END IF;
    IF _chosen IS NULL THEN
        RETURN QUERY SELECT
            NULL::text, NULL::text, NULL::text, NULL::text, NULL::smallint, NULL::integer, NULL::integer,
            NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::boolean,
            NULL::timestamptz, NULL::timestamptz, NULL::boolean, NULL::integer, NULL::text, _obstacle, _passed_by;
        RETURN;
    END IF;

    IF _queue IS NULL THEN
        INSERT INTO move (queue, before, after, bucket, count)
        SELECT turn.queue, 3, 4, 0, turn.found FROM unnest(_queues, _counts) AS turn (queue, found) WHERE turn.found > 0;
    END IF;
    RETURN QUERY
    WITH claimed AS (
        UPDATE job SET
            state = 4,
            -- The limit is for a damaged row: a number that cannot grow would fail every claim of the queue.
            attempt = least(job.attempt, 2147483646) + 1,
            node = _number,
            token = _token,
            progress = NULL,
            attempted_at = CASE WHEN chosen.place <= _slots AND job.is_quarantined IS NULL THEN _moment END
        FROM unnest(_chosen) WITH ORDINALITY AS chosen (id, place)
        WHERE job.id = chosen.id
        RETURNING
            job.id::text, job.queue, job.task, job.arguments, job.priority, job.attempt, job.max_attempts,
            job.inserted_at, job.scheduled_at, job.expires_at, job.unknown_since, job.unfit_since, job.is_quarantined,
            job.options, job.original_max_attempts, chosen.place
    ), counted AS (
        INSERT INTO move (queue, before, after, bucket, count)
        SELECT _queue, 3, 4, 0, count(*) FROM claimed HAVING _queue IS NOT NULL
    )
    SELECT
        claimed.id, CASE WHEN _queue IS NULL THEN claimed.queue END, claimed.task, claimed.arguments,
        claimed.priority, claimed.attempt, claimed.max_attempts, claimed.inserted_at,
        nullif(claimed.scheduled_at, claimed.inserted_at), CASE WHEN claimed.place = 1 THEN _moment END,
        claimed.expires_at,
        claimed.place <= _slots AND claimed.is_quarantined IS NULL, claimed.unknown_since, claimed.unfit_since,
        claimed.is_quarantined IS NOT NULL,
        earlier_attempts(claimed.attempt, claimed.max_attempts, claimed.original_max_attempts), claimed.options,
        NULL::text, CASE WHEN claimed.place = 1 THEN _passed_by END
    FROM claimed
    ORDER BY claimed.place;
END;
$$;
