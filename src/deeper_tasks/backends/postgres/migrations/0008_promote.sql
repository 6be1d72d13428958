-- States: 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.

-- Makes due jobs, which were scheduled or retryable, pending; the job that has been due for longest comes first.
-- Answers the queues that have new pending jobs, and how many. The row without a queue says in how many microseconds
-- the next job is due; it is missing when no job waits for its time.
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
        -- At most a day: the difference to an infinite moment is not a number.
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
