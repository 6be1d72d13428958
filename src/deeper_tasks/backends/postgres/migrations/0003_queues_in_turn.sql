-- States: 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.

-- The names of the first queues with pending jobs, from one name up to another. Each name is found by one lookup in the
-- index, which starts after the name before: after a blank, which no name contains, or after every name that an
-- excluded prefix begins.
CREATE FUNCTION waiting_queues(_from text, _to text, _excluded text[], _excluded_prefixes text[], _limit integer)
RETURNS SETOF text
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET enable_sort = off SET enable_material = off SET jit = off SET max_parallel_workers_per_gather = 0
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE walk (name) AS (
        (
            SELECT job.queue
            FROM job
            WHERE job.state = 3 AND job.queue >= _from AND job.queue < _to
            ORDER BY job.queue
            LIMIT 1
        )
        UNION ALL
        SELECT following.queue
        FROM walk
        CROSS JOIN LATERAL (
            SELECT job.queue
            FROM job
            WHERE job.state = 3
                AND job.queue >= greatest(walk.name || ' ', (
                    SELECT min(prefix) || chr(1114111)
                    FROM unnest(_excluded_prefixes) AS prefix
                    WHERE starts_with(walk.name, prefix)
                ))
                AND job.queue < _to
            ORDER BY job.queue
            LIMIT 1
        ) AS following
    )
    SELECT walk.name
    FROM walk
    WHERE walk.name <> ALL (_excluded)
        AND NOT EXISTS (SELECT FROM unnest(_excluded_prefixes) AS prefix WHERE starts_with(walk.name, prefix))
        AND NOT EXISTS (SELECT FROM queue WHERE queue.name = walk.name AND queue.paused_at IS NOT NULL)
    LIMIT _limit;
END;
$$;

-- Locks the first pending jobs of some queues, in turn: the first of each queue, then the second of each. Returns them,
-- and how many there are of each queue.
--
-- Each queue is asked for an equal share. The places that a short queue leaves go to the longer ones: these are asked
-- again for more, and their jobs that are locked already are found again.
--
-- In the index range of a queue it searches the stretches from _from to _to among _lows, _floors and _highs: from a
-- priority and a due time on, up to a priority. With _admitted, it takes no quarantined job but these.
CREATE FUNCTION lock_shares(
    _queues text[],
    _from integer[],
    _to integer[],
    _lows smallint[],
    _floors timestamptz[],
    _highs smallint[],
    _limit integer,
    _admitted uuid[],
    _moment timestamptz,
    OUT chosen uuid[],
    OUT counts integer[]
)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET enable_sort = off SET enable_material = off SET jit = off SET max_parallel_workers_per_gather = 0
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    _missing integer := _limit;
    _growing integer := cardinality(_queues);
    _shares integer[] := array_fill(0, ARRAY[cardinality(_queues)]);
BEGIN
    chosen := '{}';
    counts := _shares;
    WHILE _missing > 0 AND _growing > 0 LOOP
        -- A share grows only where the queue had enough jobs to fill it.
        _shares := ARRAY (
            SELECT CASE
                WHEN filled.found < filled.share THEN filled.share
                ELSE filled.share + _missing / _growing
                    + CASE WHEN filled.rank <= _missing % _growing THEN 1 ELSE 0 END
            END
            FROM (
                SELECT turn.found, turn.share, turn.place,
                    count(*) FILTER (WHERE turn.found = turn.share) OVER (ORDER BY turn.place) AS rank
                FROM unnest(_shares, counts) WITH ORDINALITY AS turn (share, found, place)
            ) AS filled
            ORDER BY filled.place
        );
        WITH first AS MATERIALIZED (
            SELECT turn.place, ARRAY (
                SELECT pending.id
                FROM generate_series(turn.first, turn.last) AS stretch (place)
                CROSS JOIN LATERAL (
                    SELECT job.id
                    FROM job
                    WHERE job.state = 3 AND job.queue = turn.queue
                        AND (job.expires_at IS NULL OR job.expires_at > _moment)
                        AND (_admitted IS NULL OR job.is_quarantined IS NULL OR job.id = ANY (_admitted))
                        AND (job.priority, job.scheduled_at) >= (_lows[stretch.place], _floors[stretch.place])
                        AND job.priority <= _highs[stretch.place]
                    ORDER BY job.priority, job.scheduled_at, job.id
                    LIMIT turn.share
                    FOR NO KEY UPDATE SKIP LOCKED
                ) AS pending
                LIMIT turn.share
            ) AS ids
            FROM unnest(_queues, _shares, _from, _to) WITH ORDINALITY AS turn (queue, share, first, last, place)
        )
        SELECT
            ARRAY (
                SELECT one.id
                FROM first
                CROSS JOIN LATERAL unnest(first.ids) WITH ORDINALITY AS one (id, rank)
                ORDER BY one.rank, first.place
            ),
            ARRAY (SELECT cardinality(first.ids) FROM first ORDER BY first.place)
        INTO chosen, counts;
        _missing := _limit - cardinality(chosen);
        _growing := (SELECT count(*) FROM unnest(_shares, counts) AS turn (share, found) WHERE turn.found = turn.share);
    END LOOP;
END;
$$;

-- Locks the first pending jobs of the queues of a pattern, in turn. Returns them, the queues that were searched, and
-- how many jobs were found in each.
--
-- It goes on to further queues where the queues found so far have fewer jobs than wanted: their jobs may be locked by
-- other claims, expired, or in quarantine. With _admitted, it takes no quarantined job but these.
--
-- While a long transaction of another session keeps the dead rows of earlier claims, only the queues of _known are
-- searched, in their order, and in each only the stretches of its index range from _known_from to _known_to. See
-- claim_floor.py.
CREATE FUNCTION lock_in_turn(
    _prefix text,
    _after text,
    _excluded text[],
    _excluded_prefixes text[],
    _limit integer,
    _admitted uuid[],
    _moment timestamptz,
    _known text[],
    _known_from integer[],
    _known_to integer[],
    _lows smallint[],
    _floors timestamptz[],
    _highs smallint[],
    OUT chosen uuid[],
    OUT queues text[],
    OUT counts integer[]
)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET enable_sort = off SET enable_material = off SET jit = off SET max_parallel_workers_per_gather = 0
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    _end text COLLATE "C" := _prefix || chr(1114111);
    _start text COLLATE "C" := least(greatest(_prefix, nullif(_after, '') || ' ' COLLATE "C"), _end);
    _low text COLLATE "C" := _start;
    _high text COLLATE "C" := _end;
    _is_last boolean := _start = _prefix;
    _queues text[];
    _from integer[] := _known_from;
    _to integer[] := _known_to;
    _locked record;
    _missing integer;
BEGIN
    IF _known IS NULL THEN
        -- One stretch for every queue: its whole index range.
        _lows := '{-32768}';
        _floors := '{-infinity}';
        _highs := '{32767}';
    END IF;
    chosen := '{}';
    queues := '{}';
    counts := '{}';
    LOOP
        _missing := _limit - cardinality(chosen);
        IF _known IS NULL THEN
            _queues := ARRAY (SELECT waiting_queues(_low, _high, _excluded, _excluded_prefixes, _missing));
            IF cardinality(_queues) < _missing AND NOT _is_last THEN
                _high := _start;
                _is_last := true;
                _queues := _queues || ARRAY (
                    SELECT waiting_queues(
                        _prefix, _high, _excluded, _excluded_prefixes, _missing - cardinality(_queues)
                    )
                );
            END IF;
            _from := array_fill(1, ARRAY[cardinality(_queues)]);
            _to := _from;
        ELSE
            SELECT
                coalesce(array_agg(waiting.queue), '{}'), coalesce(array_agg(waiting.first), '{}'),
                coalesce(array_agg(waiting.last), '{}')
            INTO _queues, _from, _to
            FROM (
                SELECT known.queue, known.first, known.last
                FROM unnest(_known, _known_from, _known_to) AS known (queue, first, last)
                WHERE NOT EXISTS (SELECT FROM queue WHERE queue.name = known.queue AND queue.paused_at IS NOT NULL)
                    AND EXISTS (
                        SELECT
                        FROM generate_series(known.first, known.last) AS stretch (place)
                        CROSS JOIN LATERAL (
                            SELECT
                            FROM job
                            WHERE job.state = 3 AND job.queue = known.queue
                                AND (job.expires_at IS NULL OR job.expires_at > _moment)
                                AND (_admitted IS NULL OR job.is_quarantined IS NULL OR job.id = ANY (_admitted))
                                AND (job.priority, job.scheduled_at)
                                    >= (_lows[stretch.place], _floors[stretch.place])
                                AND job.priority <= _highs[stretch.place]
                            ORDER BY job.priority, job.scheduled_at, job.id
                            LIMIT 1
                        ) AS pending
                    )
                LIMIT _missing
            ) AS waiting;
        END IF;
        SELECT * INTO _locked
        FROM lock_shares(_queues, _from, _to, _lows, _floors, _highs, _missing, _admitted, _moment);
        chosen := chosen || _locked.chosen;
        queues := queues || _queues;
        counts := counts || _locked.counts;
        EXIT WHEN cardinality(_queues) < _missing OR cardinality(chosen) = _limit OR _known IS NOT NULL;
        _low := _queues[cardinality(_queues)] || ' ';
    END LOOP;
END;
$$;
