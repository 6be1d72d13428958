-- States: 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.

-- Writes the reports of running attempts; see `report` in the protocol. It writes one after the other, because several
-- may be of the same job. They come sorted by id. Answers the places (from 1) of the reports whose token still holds
-- its job. Lines are a JSON array of strings.
CREATE FUNCTION report(
    _now timestamptz,
    _ids uuid[],
    _tokens text[],
    _have_started boolean[],
    _progress text[],
    _lines text[],
    _most_lines integer
)
RETURNS TABLE (place integer)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET jit = off SET max_parallel_workers_per_gather = 0 SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    _moment timestamptz := coalesce(_now, clock_timestamp());
BEGIN
    FOR _place IN 1 .. cardinality(_ids) LOOP
        UPDATE job SET
            attempted_at = CASE WHEN _have_started[_place] THEN coalesce(job.attempted_at, _moment) ELSE job.attempted_at END,
            progress = coalesce(_progress[_place], job.progress),
            log = CASE
                WHEN _lines[_place] IS NULL THEN job.log
                ELSE newest_of(listed(job.log) || ARRAY (
                    SELECT line.value::text FROM json_array_elements(_lines[_place]::json) AS line
                ), _most_lines)
            END
        WHERE job.id = _ids[_place] AND job.token = _tokens[_place] AND job.state + 0 = 4;
        IF FOUND THEN
            place := _place;
            RETURN NEXT;
        END IF;
    END LOOP;
END;
$$;

-- The last entries of an array, at most _most of them.
CREATE FUNCTION newest_of(_entries text[], _most integer) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT _entries[greatest(1, cardinality(_entries) - _most + 1) :]';
