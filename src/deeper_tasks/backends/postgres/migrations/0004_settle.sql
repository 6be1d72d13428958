-- The ten minutes of a moment, counted from 1970 in UTC.
CREATE FUNCTION bucket_of(_moment timestamptz) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT floor(extract(epoch FROM _moment) / 600)::integer';

-- A failed attempt as it is appended to the errors of a job; the error is a JSON document.
CREATE FUNCTION error_entry(_attempt integer, _moment timestamptz, _error text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT format(
        '[%s,"%s",%s]', _attempt, to_char(_moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), _error
    )
$$;

-- A list to append to; NULL, an empty one, for an array of another shape, to which nothing can be appended.
CREATE FUNCTION listed(_entries text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT CASE WHEN array_ndims(_entries) = 1 THEN _entries END';

-- Writes the ends of attempts, each fenced by its token; see the protocol's settle.
--
-- The ids come sorted, and the join walks them in their order: so two that settle or cancel the same jobs wait for
-- each other and never deadlock. Answers the places (from 1) of what was accepted, with the state that it led to, now or
-- when this token was settled before; a place may come twice. What is said of a state in force is said twice: as it is,
-- and as it becomes where a cancel was requested. A mark is what the attempts to come are told: 1 the task was unknown,
-- 2 the arguments did not fit, 3 the handler was lost with its process.
--
-- A row that somebody else's transaction holds is waited for a fifth of a second: then the caller sends the others by
-- themselves.
--
-- "state + 0": an index of the running jobs must not look fit for this. Empty at the last ANALYZE, it looks free.
CREATE FUNCTION settle(
    _now timestamptz,
    _ids uuid[],
    _tokens text[],
    _states smallint[],
    _states_if_cancelled smallint[],
    _are_uncounted boolean[],
    _delays bigint[],
    _run_times bigint[],
    _marks smallint[],
    _errors text[],
    _results text[],
    _results_omitted text[]
)
RETURNS TABLE (place integer, state smallint)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET enable_material = off SET jit = off SET max_parallel_workers_per_gather = 0
SET plan_cache_mode = force_generic_plan SET lock_timeout = '200ms'
AS $$
#variable_conflict use_column
DECLARE
    _moment timestamptz := coalesce(_now, clock_timestamp());
    _count integer;
BEGIN
    RETURN QUERY
    WITH ended AS (
        UPDATE job SET
            state = CASE WHEN job.cancel_requested IS NULL THEN sent.state ELSE sent.state_if_cancelled END,
            led_to = nullif(CASE WHEN job.cancel_requested IS NULL THEN sent.state ELSE sent.state_if_cancelled END, 6),
            attempt = greatest(job.attempt, 1) - CASE
                WHEN sent.is_uncounted AND (job.cancel_requested IS NULL OR sent.state_if_cancelled < 6) THEN 1 ELSE 0
            END,
            finished_at = CASE
                WHEN CASE WHEN job.cancel_requested IS NULL THEN sent.state ELSE sent.state_if_cancelled END >= 6
                THEN _moment
            END,
            scheduled_at = CASE
                WHEN sent.delay IS NULL OR (job.cancel_requested IS NOT NULL AND sent.state_if_cancelled >= 6)
                THEN job.scheduled_at
                ELSE least(_moment + sent.delay * interval '1 microsecond', '9999-12-30 00:00+00')
            END,
            attempted_at = coalesce(_moment - sent.run_time * interval '1 microsecond', job.attempted_at),
            unknown_since = CASE
                WHEN sent.mark = 1 THEN coalesce(job.unknown_since, _moment)
                WHEN sent.run_time IS NULL THEN job.unknown_since
            END,
            unfit_since = CASE
                WHEN sent.mark = 2 THEN coalesce(job.unfit_since, _moment)
                WHEN sent.run_time IS NULL THEN job.unfit_since
            END,
            is_quarantined = CASE
                WHEN sent.mark = 3 THEN true
                WHEN sent.run_time IS NULL THEN job.is_quarantined
            END,
            errors = CASE
                WHEN sent.error IS NULL THEN job.errors
                ELSE (listed(job.errors) || error_entry(job.attempt, _moment, sent.error))[
                    greatest(1, coalesce(array_length(listed(job.errors), 1), 0) - 98) :
                ]
            END,
            result = sent.result,
            result_omitted = sent.result_omitted
        FROM unnest(
            _ids, _tokens, _states, _states_if_cancelled, _are_uncounted, _delays, _run_times, _marks, _errors,
            _results, _results_omitted
        ) WITH ORDINALITY AS sent (
            id, token, state, state_if_cancelled, is_uncounted, delay, run_time, mark, error, result, result_omitted,
            place
        )
        WHERE job.id = sent.id AND job.token = sent.token AND job.state + 0 = 4
        RETURNING job.id, job.queue, job.state, job.unique_key, sent.place::integer
    ), counted AS (
        INSERT INTO move (queue, before, after, bucket, count)
        SELECT ended.queue, 4, ended.state, bucket_of(_moment), count(*) FROM ended GROUP BY ended.queue, ended.state
    ), released AS (
        DELETE FROM unique_key
        WHERE unique_key.expires_at IS NULL
            AND unique_key.key = ANY (ARRAY (
                SELECT ended.unique_key FROM ended WHERE ended.unique_key IS NOT NULL AND ended.state >= 6
            ))
            AND unique_key.holder = ANY (ARRAY (
                SELECT ended.id FROM ended WHERE ended.unique_key IS NOT NULL AND ended.state >= 6
            ))
    )
    SELECT ended.place, ended.state FROM ended;

    GET DIAGNOSTICS _count = ROW_COUNT;
    IF _count < cardinality(_ids) THEN
        -- What this token has settled before.
        RETURN QUERY
        SELECT sent.place::integer, coalesce(job.led_to, job.state)
        FROM unnest(_ids, _tokens) WITH ORDINALITY AS sent (id, token, place)
        JOIN job ON job.id = sent.id AND job.token = sent.token
        WHERE job.state + 0 <> 4;
    END IF;
END;
$$;
