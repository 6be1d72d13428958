-- How many attempts a claimed job had when an operator retried it last; NULL where its numbers cannot be those of a job.
CREATE FUNCTION earlier_attempts(_attempt integer, _max_attempts integer, _original_max_attempts integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN _attempt >= 1 AND _max_attempts >= 1 AND _original_max_attempts >= 1
        THEN _max_attempts - _original_max_attempts
    END
$$;

-- The names of the first queues with pending jobs from one name up to another. Each is found by one look at the index,
-- from the one before; the next begins after a blank, which no name has, or after all that an excluded prefix begins.
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

-- Locks the first pending jobs of some queues, in turn: the first of each queue, then the second of each. Returns them, and
-- how many they are of each queue.
--
-- Each queue is asked for an equal share. What a short one leaves, the longer ones get: they are asked again, for more,
-- and jobs that are locked already are found again.
--
-- In the line of a queue it looks at the stretches from _from to _to among _lows, _floors and _highs: from a priority and
-- due time on, up to a priority. Of the jobs in quarantine it takes only the _admitted, unless that is NULL.
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
        -- Only those grow whose lines were as long as their shares.
        _shares := ARRAY (
            SELECT CASE
                WHEN line.found < line.share THEN line.share
                ELSE line.share + _missing / _growing + CASE WHEN line.rank <= _missing % _growing THEN 1 ELSE 0 END
            END
            FROM (
                SELECT turn.found, turn.share, turn.place,
                    count(*) FILTER (WHERE turn.found = turn.share) OVER (ORDER BY turn.place) AS rank
                FROM unnest(_shares, counts) WITH ORDINALITY AS turn (share, found, place)
            ) AS line
            ORDER BY line.place
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

-- Locks the first pending jobs of the queues of a pattern, in turn, and counts them as claimed.
--
-- It goes on to further queues where those that it has found have less than is wanted: their jobs may be locked by other
-- claims, expired, or in quarantine. Where more are in quarantine than may be taken, it begins again, for the first of
-- these only.
--
-- While a long transaction of another session keeps the dead rows of the claims before, only the queues of _known are looked at,
-- which come in turn, and in each only the stretches of its line from _known_from to _known_to. See claim_floor.py.
CREATE FUNCTION lock_in_turn(
    _prefix text,
    _after text,
    _excluded text[],
    _excluded_prefixes text[],
    _limit integer,
    _quarantined integer,
    _moment timestamptz,
    _known text[],
    _known_from integer[],
    _known_to integer[],
    _lows smallint[],
    _floors timestamptz[],
    _highs smallint[]
)
RETURNS uuid[]
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
    _low text COLLATE "C";
    _high text COLLATE "C";
    _is_last boolean;
    _queues text[];
    _from integer[] := _known_from;
    _to integer[] := _known_to;
    _locked record;
    _chosen uuid[];
    _served text[];
    _counts integer[];
    _missing integer;
    _in_quarantine uuid[];
    _admitted uuid[] := CASE WHEN _quarantined <= 0 THEN '{}' END;
BEGIN
    IF _known IS NULL THEN
        -- One stretch for all: the whole line.
        _lows := '{-32768}';
        _floors := '{-infinity}';
        _highs := '{32767}';
    END IF;
    LOOP
        _chosen := '{}';
        _served := '{}';
        _counts := '{}';
        _low := _start;
        _high := _end;
        _is_last := _start = _prefix;
        LOOP
            _missing := _limit - cardinality(_chosen);
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
            _chosen := _chosen || _locked.chosen;
            _served := _served || _queues;
            _counts := _counts || _locked.counts;
            EXIT WHEN cardinality(_queues) < _missing OR cardinality(_chosen) = _limit OR _known IS NOT NULL;
            _low := _queues[cardinality(_queues)] || ' ';
        END LOOP;
        EXIT WHEN _admitted IS NOT NULL;
        _in_quarantine := ARRAY (
            SELECT job.id
            FROM unnest(_chosen) WITH ORDINALITY AS chosen (id, place)
            CROSS JOIN LATERAL (SELECT job.id FROM job WHERE job.id = chosen.id AND job.is_quarantined) AS job
            ORDER BY chosen.place
        );
        EXIT WHEN cardinality(_in_quarantine) <= _quarantined;
        _admitted := _in_quarantine[: _quarantined];
    END LOOP;
    INSERT INTO move (queue, before, after, bucket, count)
    SELECT turn.queue, 3, 4, 0, turn.found FROM unnest(_served, _counts) AS turn (queue, found) WHERE turn.found > 0;
    RETURN nullif(_chosen, '{}');
END;
$$;

-- Takes pending jobs of a queue, or with _queue NULL of those of a pattern, and marks them running, in one statement; see
-- the protocol's claim.
--
-- Two locks, both until the end of the statement. By its token: the same claim sent twice at once happens once, and
-- the second gives what the first took. By its node, shared: a rescue of the node, which takes it alone, comes before
-- the claim, which then sees that the node is lost, or after it, and then sees its jobs.
--
-- While a long transaction of another session keeps the dead rows of the claims before, the search goes through all of them. Told
-- how far the jobs of each priority were taken (_priorities and _floors), it begins there; see claim_floor.py.
--
-- Of the jobs in quarantine only the first _quarantined are taken: where the search met more, it is made once more, and
-- passes by the others.
--
-- Every answer has a row. One without an id tells why there are no jobs: 'lost', 'paused', or NULL for none pending.
-- passed_by: how many entries of the index the search met in vain; a count, because a time would blame the dead for
-- what a busy machine does.
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
            job.attempt, job.max_attempts, job.inserted_at, job.scheduled_at, _moment, job.expires_at,
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
                _chosen := lock_in_turn(
                    _prefix, _after, _excluded, _excluded_prefixes, _limit, _quarantined, _moment, _known, _known_from,
                    _known_to, _priorities, _floors, _highs
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

    RETURN QUERY
    WITH claimed AS (
        UPDATE job SET
            state = 4,
            -- Of a damaged row: a number that cannot grow would fail the whole batch, for ever.
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
        claimed.priority, claimed.attempt, claimed.max_attempts, claimed.inserted_at, claimed.scheduled_at, _moment,
        claimed.expires_at,
        claimed.place <= _slots AND claimed.is_quarantined IS NULL, claimed.unknown_since, claimed.unfit_since,
        claimed.is_quarantined IS NOT NULL,
        earlier_attempts(claimed.attempt, claimed.max_attempts, claimed.original_max_attempts), claimed.options,
        NULL::text, _passed_by
    FROM claimed
    ORDER BY claimed.place;
END;
$$;
