-- States: 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.

-- Counts a heartbeat of a node, and answers rows of three kinds. 'held': a job that the node runs, with its token and
-- the reason of a requested cancel. 'paused': a paused queue. 'lost', alone: the node is not registered or was taken for
-- dead.
CREATE FUNCTION beat(_node text, _busy integer, _now timestamptz)
RETURNS TABLE (kind text, name text, token text, reason text)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off SET max_parallel_workers_per_gather = 0 SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    _number integer;
BEGIN
    UPDATE node SET
        beat = CASE WHEN node.beat < 9223372036854775807 THEN node.beat + 1 ELSE 0 END,
        busy = _busy,
        beat_at = coalesce(_now, clock_timestamp())
    WHERE node.id = _node AND NOT node.is_lost
    RETURNING node.number INTO _number;
    IF _number IS NULL THEN
        RETURN QUERY SELECT 'lost', NULL::text, NULL::text, NULL::text;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'held', job.id::text, job.token, job.cancel_requested FROM job WHERE job.state = 4 AND job.node = _number
    UNION ALL
    SELECT 'paused', queue.name, NULL, NULL FROM queue WHERE queue.paused_at IS NOT NULL;
END;
$$;
