-- Makes scheduled and retryable jobs that are due pending, the longest due first. Answers the queues that have new
-- pending jobs and how many; in the row without a queue, in how many microseconds the next job is due, if there is one.
CREATE FUNCTION promote(_limit integer, _now timestamptz)
RETURNS TABLE (queue text, count bigint, next_due_in bigint)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET enable_sort = off SET jit = off SET max_parallel_workers_per_gather = 0 SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    _moment timestamptz := coalesce(_now, clock_timestamp());
BEGIN
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT job.id, job.state
        FROM job
        WHERE job.state IN (1, 5) AND job.scheduled_at <= _moment
        ORDER BY job.scheduled_at, job.id
        LIMIT _limit
        FOR NO KEY UPDATE SKIP LOCKED
    ), promoted AS (
        UPDATE job SET state = 3 FROM due WHERE job.id = due.id RETURNING job.queue, due.state AS before
    ), counted AS (
        INSERT INTO move (queue, before, after, bucket, count)
        SELECT promoted.queue, promoted.before, 3, 0, count(*) FROM promoted GROUP BY promoted.queue, promoted.before
        RETURNING move.queue, move.count
    )
    SELECT counted.queue, sum(counted.count), NULL::bigint FROM counted GROUP BY counted.queue;

    RETURN QUERY
    SELECT
        NULL::text,
        0::bigint,
        -- From now to a day at most: the difference to infinity is no number.
        ceil(
            extract(epoch FROM least(greatest(job.scheduled_at, _moment), _moment + interval '1 day') - _moment)
            * 1000000
        )::bigint
    FROM job
    WHERE job.state IN (1, 5)
    ORDER BY job.scheduled_at, job.id
    LIMIT 1;
END;
$$;

-- A sum of counts as it is stored and shown: of a damaged counter it may be one that no bigint holds.
CREATE FUNCTION within_bigint(_sum numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT least(greatest(_sum, -9223372036854775808), 9223372036854775807)::bigint';

-- Adds to the counters what they are behind, one at a time: so no two wait for each other. Answers whether there is more.
CREATE FUNCTION fold() RETURNS boolean
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET jit = off SET max_parallel_workers_per_gather = 0
AS $$
#variable_conflict use_column
DECLARE
    _most CONSTANT integer := 10000;
    _count integer := 0;
BEGIN
    IF pg_try_advisory_xact_lock(1684366704, -1) THEN
        WITH taken AS (
            DELETE FROM move WHERE move.ctid = ANY (ARRAY (SELECT move.ctid FROM move LIMIT _most)) RETURNING move.*
        ), change AS (
            SELECT taken.queue, taken.before AS state, 0 AS bucket, -taken.count::bigint AS count
            FROM taken WHERE taken.before IS NOT NULL
            UNION ALL
            SELECT taken.queue, taken.after, 0, taken.count FROM taken WHERE taken.after IS NOT NULL
            UNION ALL
            SELECT taken.queue, taken.after, taken.bucket, taken.count FROM taken WHERE taken.after >= 6
        ), folded AS (
            INSERT INTO counter (queue, state, bucket, count)
            SELECT change.queue, change.state, change.bucket, sum(change.count)
            FROM change
            GROUP BY change.queue, change.state, change.bucket
            HAVING sum(change.count) <> 0
            ON CONFLICT (queue, state, bucket) DO UPDATE
            SET count = within_bigint(counter.count::numeric + excluded.count)
        )
        SELECT count(*) INTO _count FROM taken;
    END IF;
    RETURN _count = _most;
END;
$$;
