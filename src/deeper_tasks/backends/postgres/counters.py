"""The counters: how many jobs each queue has in each state. What changes them is appended, and folded in later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from deeper_tasks.backends.postgres.codec import array, text_array
from deeper_tasks.backends.postgres.database import Transaction

ADD = """
INSERT INTO move (queue, before, after, bucket, count)
SELECT sent.queue, sent.before, sent.after, bucket_of(coalesce(%(now)s::timestamptz, now())), sent.count
FROM unnest(%(queues)s::text[], %(before)s::smallint[], %(after)s::smallint[], %(counts)s::integer[])
    AS sent (queue, before, after, count)
"""
SELECT = """
SELECT queue, state, within_bigint(sum(count)) FROM (
    SELECT queue, state, count FROM counter WHERE bucket = 0
    UNION ALL
    SELECT queue, before, -count::bigint FROM move WHERE before IS NOT NULL
    UNION ALL
    SELECT queue, after, count FROM move WHERE after IS NOT NULL
) AS change
GROUP BY queue, state
HAVING sum(count) > 0
"""

Move = tuple[str, int | None, int | None]
"""A job's queue, the code of the state it left and of the one it entered; None: it came or went."""

Counts = dict[tuple[str, int], int]
"""How many jobs there are of a queue and the code of a state. None is left out."""


async def move(transaction: Transaction, moves: Iterable[Move], *, now: str | None) -> None:
    """Count jobs out of one state and into another; an end counts for its ten minutes as well."""
    counted = Counter(moves)
    if counted:
        values = {
            "queues": text_array(queue for queue, _, _ in counted),
            "before": array(before for _, before, _ in counted),
            "after": array(after for _, _, after in counted),
            "counts": array(counted.values()),
            "now": now,
        }
        await transaction.execute(ADD, values)


async def counts_of(transaction: Transaction) -> Counts:
    """Return the counts of all queues and states."""
    return {(queue, state): count for queue, state, count in await transaction.rows(SELECT)}
