-- States: 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.

-- The ten-minute bucket of a moment, counted from 1970 in UTC.
CREATE FUNCTION bucket_of(_moment timestamptz) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT floor(extract(epoch FROM _moment) / 600)::integer';

-- A failed attempt, as it is appended to the errors of a job. The error is a JSON document.
CREATE FUNCTION error_entry(_attempt integer, _moment timestamptz, _error text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT format(
        '[%s,"%s",%s]', _attempt, to_char(_moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), _error
    )
$$;

-- The array itself if it is a list. NULL, an empty list, for an array of another shape, to which nothing can be
-- appended.
CREATE FUNCTION listed(_entries text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT CASE WHEN array_ndims(_entries) = 1 THEN _entries END';

-- The effects of the end of jobs, in the same transaction, beside the change of their rows and of the counters: the unique
-- keys that they held until their end become free. Every end of every job passes here: `settle` calls this function for
-- its jobs, and transitions.py for all others. The arrays have one entry for each job. _states: the state in which a job
-- ended; NULL for an unfinished job that was deleted. _moment: when they ended. The callers have set the search path and the planner, so this
-- function sets nothing: each setting would cost every settle some microseconds.
CREATE FUNCTION jobs_ended(_ids uuid[], _states smallint[], _keys text[], _moment timestamptz) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF cardinality(array_remove(_keys, NULL)) > 0 THEN
        -- In the order of the index on the keys: two transactions that free the same keys never deadlock.
        DELETE FROM unique_key
        WHERE unique_key.key = ANY (_keys) AND unique_key.holder = ANY (_ids) AND unique_key.expires_at IS NULL;
    END IF;
END;
$$;

-- Writes the ends of attempts, each fenced by its token; see `settle` in the protocol.
--
-- The ids come sorted, and the join reads them in their order: so two transactions that settle or cancel the same jobs
-- wait for each other and never deadlock. Answers the places (from 1) of the settlements that were accepted, each with
-- the state that it led to, now or when the same token settled before; a place may come twice. Each settlement gives
-- two states: the one that it leads to, and the one that it leads to if a cancel was requested. A mark informs later
-- attempts: 1 the task was unknown, 2 the arguments did not fit, 3 the handler was lost with its process.
--
-- A row that another transaction has locked, of a job or of what its end changes, is waited for at most a fifth of a
-- second; then the caller settles the other jobs without it.
--
-- "state + 0" keeps the index of the running jobs out of the plan: if it was empty at the last ANALYZE, it seems free.
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
    _places integer[];
    _after smallint[];
    _ended uuid[];
    _ended_states smallint[];
    _keys text[];
BEGIN
    WITH settled AS (
        UPDATE job SET
            state = CASE WHEN job.cancel_requested IS NULL THEN sent.state ELSE sent.state_if_cancelled END,
            led_to = nullif(CASE WHEN job.cancel_requested IS NULL THEN sent.state ELSE sent.state_if_cancelled END, 6),
            attempt = greatest(greatest(job.attempt, 0) - CASE
                WHEN sent.is_uncounted AND (job.cancel_requested IS NULL OR sent.state_if_cancelled < 6) THEN 1 ELSE 0
            END, 0),
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
            -- An attempt whose handler ran forgets the marks of the attempts before it.
            unknown_since = coalesce(
                CASE WHEN sent.run_time IS NULL THEN job.unknown_since END, CASE WHEN sent.mark = 1 THEN _moment END
            ),
            unfit_since = coalesce(
                CASE WHEN sent.run_time IS NULL THEN job.unfit_since END, CASE WHEN sent.mark = 2 THEN _moment END
            ),
            is_quarantined = CASE WHEN sent.mark = 3 THEN true WHEN sent.run_time IS NULL THEN job.is_quarantined END,
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
        SELECT settled.queue, 4, settled.state, bucket_of(_moment), count(*)
        FROM settled
        GROUP BY settled.queue, settled.state
    )
    SELECT
        array_agg(settled.place), array_agg(settled.state),
        array_agg(settled.id) FILTER (WHERE settled.state >= 6),
        array_agg(settled.state) FILTER (WHERE settled.state >= 6),
        array_agg(settled.unique_key) FILTER (WHERE settled.state >= 6)
    INTO _places, _after, _ended, _ended_states, _keys
    FROM settled;
    IF _ended IS NOT NULL THEN
        PERFORM jobs_ended(_ended, _ended_states, _keys, _moment);
    END IF;
    RETURN QUERY SELECT answer.place, answer.state FROM unnest(_places, _after) AS answer (place, state);

    IF coalesce(cardinality(_places), 0) < cardinality(_ids) THEN
        -- Settlements that the same token had written before.
        RETURN QUERY
        SELECT sent.place::integer, coalesce(job.led_to, job.state)
        FROM unnest(_ids, _tokens) WITH ORDINALITY AS sent (id, token, place)
        JOIN job ON job.id = sent.id AND job.token = sent.token
        WHERE job.state + 0 <> 4;
    END IF;
END;
$$;
