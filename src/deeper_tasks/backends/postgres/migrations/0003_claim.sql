-- Takes pending jobs of a queue and marks them running, in one statement; see the protocol's claim.
--
-- Two locks, both until the end of the statement. By its token: the same claim sent twice at once happens once, and
-- the second gives what the first took. By its node, shared: a rescue of the node, which takes it alone, comes before
-- the claim, which then sees that the node is lost, or after it, and then sees its jobs.
--
-- A row without an id tells why there are none: 'lost' or 'paused'.
CREATE FUNCTION claim(_queue text, _limit integer, _slots integer, _node text, _token text, _now timestamptz)
RETURNS TABLE (
    id text,
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
    options text,
    obstacle text
)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET enable_sort = off SET enable_material = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    _moment timestamptz := coalesce(_now, clock_timestamp());
    _number integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(_token, 0));
    SELECT node.number INTO _number FROM node WHERE node.id = _node;
    PERFORM pg_advisory_xact_lock_shared(1684366704, _number);
    IF NOT EXISTS (SELECT FROM node WHERE node.id = _node AND NOT node.is_lost) THEN
        RETURN QUERY SELECT
            NULL::text, NULL::text, NULL::text, NULL::smallint, NULL::integer, NULL::integer, NULL::timestamptz,
            NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::boolean, NULL::timestamptz, NULL::text,
            'lost';
        RETURN;
    END IF;

    RETURN QUERY
    SELECT
        job.id::text, job.task, job.arguments, job.priority, job.attempt, job.max_attempts, job.inserted_at,
        job.scheduled_at, _moment, job.expires_at, job.attempted_at IS NOT NULL, job.unknown_since, job.options,
        NULL::text
    FROM job
    WHERE job.state = 4 AND job.node = _number AND job.token = _token
    ORDER BY job.priority, job.scheduled_at, job.id;
    IF FOUND THEN
        RETURN;
    END IF;

    IF EXISTS (SELECT FROM queue WHERE queue.name = _queue AND queue.paused_at IS NOT NULL) THEN
        RETURN QUERY SELECT
            NULL::text, NULL::text, NULL::text, NULL::smallint, NULL::integer, NULL::integer, NULL::timestamptz,
            NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::boolean, NULL::timestamptz, NULL::text,
            'paused';
        RETURN;
    END IF;

    RETURN QUERY
    WITH first AS MATERIALIZED (
        SELECT job.id
        FROM job
        WHERE job.state = 3 AND job.queue = _queue AND (job.expires_at IS NULL OR job.expires_at > _moment)
        ORDER BY job.priority, job.scheduled_at, job.id
        LIMIT _limit
        FOR NO KEY UPDATE SKIP LOCKED
    ), chosen AS MATERIALIZED (
        SELECT first.id, row_number() OVER () AS place FROM first
    ), claimed AS (
        UPDATE job SET
            state = 4,
            attempt = job.attempt + 1,
            node = _number,
            token = _token,
            progress = NULL,
            attempted_at = CASE WHEN chosen.place <= _slots THEN _moment END
        FROM chosen
        WHERE job.id = chosen.id
        RETURNING
            job.id::text, job.task, job.arguments, job.priority, job.attempt, job.max_attempts, job.inserted_at,
            job.scheduled_at, job.expires_at, job.unknown_since, job.options, chosen.place
    ), counted AS (
        INSERT INTO move (queue, before, after, day, count)
        SELECT _queue, 3, 4, 0, count(*) FROM claimed HAVING count(*) > 0
    )
    SELECT
        claimed.id, claimed.task, claimed.arguments, claimed.priority, claimed.attempt, claimed.max_attempts,
        claimed.inserted_at, claimed.scheduled_at, _moment, claimed.expires_at, claimed.place <= _slots,
        claimed.unknown_since, claimed.options, NULL::text
    FROM claimed
    ORDER BY claimed.place;
END;
$$;
