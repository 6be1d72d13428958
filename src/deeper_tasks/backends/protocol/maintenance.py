"""Maintenance: the role of moving jobs on that no worker holds any more, or not yet, and of forgetting old ones."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Protocol

from msgspec import Struct

from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.settlement import MovedJob

SILENT_NODES_KEPT = timedelta(days=2)
"""
The time without a beat after which `prune` forgets a node that holds no job: no worker was there to rescue it.

Longer than any step of the clock by which a worker still prunes: otherwise
such a step would take the living, who have not beaten since, for silent.
"""


class Promotion(Struct, frozen=True, kw_only=True):
    """The result of `promote`: how many jobs became pending, in which queues, and when the next is due."""

    count: int
    queues: frozenset[str]
    next_due_in: timedelta | None


class Rescue(Struct, frozen=True, kw_only=True):
    """
    The result of `rescue`: the jobs it took from the node, and whether none is left.

    `queues` are those that have new pending jobs by it.
    """

    jobs: tuple[MovedJob, ...]
    queues: frozenset[str]
    is_finished: bool


class Retention(Struct, frozen=True, kw_only=True):
    """
    How long ended jobs are kept. `failed` covers failed, discarded and cancelled.

    None keeps them forever.
    """

    completed: timedelta | None = timedelta(days=7)
    failed: timedelta | None = timedelta(days=30)


class Maintenance(Protocol):
    """A store whose jobs any worker promotes, rescues, expires and prunes. All calls are safe to repeat."""

    async def promote(self, *, now: datetime | None = None) -> Promotion:
        """Make up to `max_batch` scheduled and retryable jobs that are due pending, the longest due first."""

    async def rescue(
        self, node: NodeId, *, beat: int, trusted: Collection[str] = (), now: datetime | None = None
    ) -> Rescue:
        """
        Take up to `max_batch` jobs from a dead node, if its beat still is `beat`.

        The first call that finds the beat unchanged marks the node lost: from
        then on its claims and beats are refused; a settle still counts for a job
        that no rescue has reached. A job returns to `pending` at once, having used
        an attempt, with `worker_lost` among its errors; it is `discarded` when that
        was its last and it had started, `cancelled` when that was requested. A job
        that had not started returns without having used it, but for the first attempt
        of several. A job that had started is quarantined, whatever becomes of it, but
        for those of the `trusted` tasks.
        When none is left the node is removed. A node that beat since, or is
        unknown, loses nothing: the answer is finished and empty.
        """

    async def expire(self, *, now: datetime | None = None) -> list[MovedJob]:
        """Fail up to `max_batch` pending or retryable jobs whose `expires_at` has passed; the error is `EXPIRED`."""

    async def prune(self, retention: Retention, *, now: datetime | None = None) -> int:
        """
        Delete up to `max_batch` ended jobs past their retention; return how many.

        The first by `finished_at` and id, whatever their states and queues. As after
        `delete`, the unique keys of those that did not complete are free. Rows that are of
        no use any more go as well: unique keys that have expired, the counts of
        ends of more than 25 hours ago, and nodes that hold no job and have been silent for
        `SILENT_NODES_KEPT`. A node that running jobs name and that is not there, as in a copy
        of some of the tables, gets a stand-in, whose jobs are rescued when its lease has ended.
        """
