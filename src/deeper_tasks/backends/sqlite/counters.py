"""The counters: how many jobs each queue has in each state, written by the transaction that moves the jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from deeper_tasks.backends.buckets import BUCKETS_KEPT
from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.sqlite.codec import BUCKET, to_json
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.backends.sqlite.index_ranges import recounted, wrong_queues
from deeper_tasks.domain.state import TERMINAL

ADD = """
INSERT INTO deeper_counter (queue, state, bucket, count) VALUES (?, ?, ?, ?)
ON CONFLICT (queue, state, bucket) DO UPDATE SET
    -- A damaged count must not overflow: the change of the jobs would fail with it.
    count = min(max(count, -4611686018427387904), 4611686018427387904) + excluded.count
"""
DELETE_COUNTS = "DELETE FROM deeper_counter WHERE bucket = 0 AND queue IN (SELECT value FROM json_each(?))"
DELETE_OLD_COUNTS = """
DELETE FROM deeper_counter WHERE bucket < :oldest AND (bucket > 0 OR count = 0)
"""

_TOTAL = 0
"""The bucket that counts the jobs which are there now."""
_ENDED = frozenset(CODES[state] for state in TERMINAL)

Move = tuple[str, int | None, int | None]
"""A queue, the code of the state that jobs left and of the state they entered; None: they came, or were deleted."""


def count(connection: Statements, moves: Mapping[Move, int], *, now: int) -> None:
    """Count so many jobs for each move out of one state and into another; an end counts in its ten minutes as well."""
    changes: Counter[tuple[str, int, int]] = Counter()
    for (queue, before, after), jobs in moves.items():
        if before in STATES:
            changes[queue, before, _TOTAL] -= jobs
        if after is not None:
            changes[queue, after, _TOTAL] += jobs
        if after in _ENDED:
            changes[queue, after, now // BUCKET] += jobs
    connection.executemany(ADD, [(*key, change) for key, change in changes.items() if change])


def mend(connection: Statements) -> None:
    """Count the jobs of queues anew whose counters cannot be right, because the tables were changed by hand."""
    wrong = wrong_queues(connection)
    if wrong:
        connection.execute(DELETE_COUNTS, (to_json(sorted(wrong)),))
        counts = recounted(connection, wrong)
        connection.executemany(ADD, [(queue, state, _TOTAL, jobs) for (queue, state), jobs in counts.items()])


def prune(connection: Statements, *, now: int) -> None:
    """Delete the counts of ends that no statistics read any more, and the totals that are 0."""
    connection.execute(DELETE_OLD_COUNTS, {"oldest": now // BUCKET - BUCKETS_KEPT})
