"""The counters: how many jobs each queue has in each state. Reads only; `transitions.py` writes what changes them."""

from __future__ import annotations

from deeper_tasks.backends.postgres.database import Transaction

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

Counts = dict[tuple[str, int], int]
"""The number of jobs by queue and code of the state, without zeros."""


async def counts_of(transaction: Transaction) -> Counts:
    """Return the counts of all queues and states."""
    return {(queue, state): count for queue, state, count in await transaction.rows(SELECT)}
