-- States: 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.

-- A sum of counts as it is stored and shown. The sum over a damaged counter may lie outside the range of bigint.
CREATE FUNCTION within_bigint(_sum numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT least(greatest(_sum, -9223372036854775808), 9223372036854775807)::bigint';

-- Adds a batch of moves to the counters and deletes them. Only one session does so at a time: another returns at once,
-- so that none waits. Answers whether more moves are left.
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
