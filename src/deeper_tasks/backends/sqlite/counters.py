"""The counters: how many jobs each queue has in each state, moved by the transaction that moves the jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.sqlite.codec import BUCKET
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.domain.state import TERMINAL

ADD = """
INSERT INTO deeper_counter (queue, state, bucket, count) VALUES (?, ?, ?, ?)
ON CONFLICT (queue, state, bucket) DO UPDATE SET
    -- A damaged one must not overflow: that would fail the change of the jobs.
    count = min(max(count, -4611686018427387904), 4611686018427387904) + excluded.count
"""

_EVER = 0
_ENDED = frozenset(CODES[state] for state in TERMINAL)

Move = tuple[str, int | None, int | None]
"""A job's queue, the code of the state it left and of the one it entered; None: it came or went."""


def move(connection: Statements, moves: Iterable[Move], *, now: int) -> None:
    """Count jobs out of one state and into another; an end counts for its ten minutes as well."""
    count_moves(connection, Counter(moves), now=now)


def count_moves(connection: Statements, moves: Counter[Move], *, now: int) -> None:
    """The same for moves that are counted already: what a batch of like jobs costs is one row."""
    changes: Counter[tuple[str, int, int]] = Counter()
    for (queue, before, after), count in moves.items():
        if before in STATES:
            changes[queue, before, _EVER] -= count
        if after is not None:
            changes[queue, after, _EVER] += count
        if after in _ENDED:
            changes[queue, after, now // BUCKET] += count
    connection.executemany(ADD, [(*key, count) for key, count in changes.items() if count])
