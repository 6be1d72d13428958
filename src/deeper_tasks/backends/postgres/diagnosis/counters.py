"""The counters: how far they are behind, and whether they equal a recount of the jobs."""

from __future__ import annotations

from deeper_tasks.backends.codes import STATES
from deeper_tasks.backends.postgres.connecting import Connection
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fault, fine, warning

COUNT_MOVES = """
SELECT count(*), extract(epoch FROM clock_timestamp() - min(moved_at))::float8
FROM (SELECT moved_at FROM "{schema}".move LIMIT 100000) AS move
"""
# One statement, so that all counts are of one moment.
RECOUNT = """
SELECT queue, state, sum(counted), sum(there)::bigint
FROM (
    SELECT queue, state, count AS counted, 0 AS there FROM "{schema}".counter WHERE bucket = 0
    UNION ALL
    SELECT queue, before, -count::bigint, 0 FROM "{schema}".move WHERE before IS NOT NULL
    UNION ALL
    SELECT queue, after, count, 0 FROM "{schema}".move WHERE after IS NOT NULL
    UNION ALL
    SELECT queue, state, 0, count(*) FROM "{schema}".job GROUP BY queue, state
) AS line
GROUP BY queue, state
HAVING sum(counted) <> sum(there)
ORDER BY queue, state
"""

MANY_MOVES = 50_000
LONG_BEHIND = 300.0
"""Seconds that a move may wait to be folded: a worker folds each second."""
_MOST_NAMED = 5
_MOST_AT_ONCE = 2**31 - 1
"""The highest number that one move can count."""


async def examine(connection: Connection, schema: str, *, deep: bool) -> list[Finding]:
    """Return the findings about the counters; `deep` counts all jobs."""
    [(moves, seconds)] = await (await connection.execute(COUNT_MOVES.format(schema=schema))).fetchall()
    if moves >= MANY_MOVES:
        return [
            warning(
                "counters",
                f"they are {moves:,} moves or more behind: statistics take long, because no worker folds them",
                "run a worker: each of them folds, a few thousand a second",
            )
        ]
    if seconds is not None and seconds >= LONG_BEHIND:
        return [
            warning(
                "counters",
                f"they have been behind for {readable(seconds)}: statistics are right, and take ever longer",
                "run a worker: each of them folds; the log of one that runs says once why its folder fails",
            )
        ]
    if deep:
        return [await _recounted(connection, schema)]
    return [fine("counters", f"{moves:,} moves behind")]


async def _recounted(connection: Connection, schema: str) -> Finding:
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout TO 0")
        wrong = await (await connection.execute(RECOUNT.format(schema=schema))).fetchall()
    if not wrong:
        return fine("counters", "they equal a recount of all jobs")
    differences = [
        f"{counted:,} {STATES.get(state, f'of the unknown state {state}')} in {queue!r} and there are {there:,}"
        for queue, state, counted, there in wrong
    ]
    # A move with only `before` touches no count of a day, and the difference stays right while jobs move on.
    values = [(_literal(queue), state, int(counted) - there) for queue, state, counted, there in wrong]
    beyond = [f"({queue}, {state})" for queue, state, difference in values if abs(difference) > _MOST_AT_ONCE]
    more = f" and {len(differences) - _MOST_NAMED} more" if len(differences) > _MOST_NAMED else ""
    remedy = (
        f'DELETE FROM "{schema}".counter WHERE (queue, state) IN ({", ".join(beyond)}); then look again'
        if beyond
        else f'INSERT INTO "{schema}".move (queue, before, bucket, count) VALUES '
        + ", ".join(f"({queue}, {state}, 0, {difference})" for queue, state, difference in values)
    )
    return fault(
        "counters",
        f"they count {'; '.join(differences[:_MOST_NAMED])}{more}: the tables were changed by hand",
        remedy,
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
