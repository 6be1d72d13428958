"""Maintain: promote, rescue, expire. Any number of workers may do it at once. Deletions are in `pruning.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import timedelta
from typing import NamedTuple

import msgspec

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.protocol import MAX_BATCH, Promotion, Rescue
from deeper_tasks.backends.sqlite import transitions
from deeper_tasks.backends.sqlite.row_changes import RowChange
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import EXPIRED, ErrorReport
from deeper_tasks.domain.settlement import MovedJob, worker_lost
from deeper_tasks.domain.state import State
from deeper_tasks.domain.transitions import EXPIRY, Change, after_rescue

_RUNNING = CODES[State.RUNNING]

SELECT_DUE = """
SELECT json_group_array(json_array(rowid, queue, state)) FROM (
    SELECT rowid, queue, state FROM deeper_job INDEXED BY deeper_job_due
    WHERE state IN (1, 5) AND scheduled_at <= :now
    ORDER BY scheduled_at, id
    LIMIT :limit
)
"""
SELECT_NEXT_DUE = """
SELECT scheduled_at FROM deeper_job INDEXED BY deeper_job_due WHERE state IN (1, 5) ORDER BY scheduled_at, id LIMIT 1
"""
MARK_LOST = "UPDATE deeper_node SET is_lost = 1 WHERE id = :node AND (is_lost OR beat = :beat)"
SELECT_ABANDONED = """
SELECT json_group_array(json_array(
    rowid, id, task, queue, attempt, max_attempts, attempted_at IS NOT NULL, cancel_requested, unique_key
))
FROM (
    SELECT rowid, * FROM deeper_job INDEXED BY deeper_job_running WHERE state = 4 AND node = :node LIMIT :limit
)
"""
DELETE_NODE = "DELETE FROM deeper_node WHERE id = ?"
SELECT_EXPIRED = """
SELECT json_group_array(json_array(rowid, id, task, queue, state, attempt, unique_key)) FROM (
    SELECT rowid, * FROM deeper_job INDEXED BY deeper_job_expiring
    WHERE expires_at IS NOT NULL AND state IN (3, 5) AND expires_at <= :now
    ORDER BY expires_at
    LIMIT :limit
)
"""


class _AbandonedJob(NamedTuple):
    """A job of a dead node."""

    rowid: int
    id: JobId
    task: str
    queue: str
    attempt: int
    max_attempts: int
    has_started: bool
    cancel_requested: str | None
    unique_key: str | None

    @property
    def state(self) -> int:
        """The state that the rescue ends."""
        return _RUNNING

    def after_rescue(self, *, is_trusted: bool) -> Change:
        """Return what the rescue changes."""
        return after_rescue(
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            has_started=self.has_started,
            is_cancel_requested=self.cancel_requested is not None,
            is_trusted=is_trusted,
        )

    def moved(self, change: Change, error: ErrorReport) -> MovedJob:
        """Return the job as the rescue left it, for its event."""
        assert change.state is not None
        return MovedJob(
            id=self.id,
            state=change.state,
            task=self.task,
            queue=self.queue,
            attempt=self.attempt,
            error=error if change.keeps_error else None,
            cancel_reason=self.cancel_requested,
        )


class _ExpiredJob(NamedTuple):
    """A job that was not started in time."""

    rowid: int
    id: JobId
    task: str
    queue: str
    state: int
    attempt: int
    unique_key: str | None


_due = msgspec.json.Decoder(list[tuple[int, str, int]])
_abandoned = msgspec.json.Decoder(list[_AbandonedJob], strict=False)
_expired = msgspec.json.Decoder(list[_ExpiredJob])


def promote(connection: sqlite3.Connection, *, now: int) -> Promotion:
    """Make due jobs pending; see `Backend.promote`."""
    due = _due.decode(connection.execute(SELECT_DUE, {"now": now, "limit": MAX_BATCH}).fetchone()[0])
    transitions.promote(connection, due, now=now)
    following = connection.execute(SELECT_NEXT_DUE).fetchone()
    return Promotion(
        count=len(due),
        queues=frozenset(queue for _, queue, _ in due),
        next_due_in=None if following is None else timedelta(microseconds=max(0, following[0] - now)),
    )


def rescue(connection: sqlite3.Connection, node: NodeId, *, beat: int, trusted: Collection[str], now: int) -> Rescue:
    """Take the jobs of a dead node; see `Backend.rescue`."""
    if connection.execute(MARK_LOST, {"node": node, "beat": beat}).rowcount == 0:
        return Rescue(jobs=(), queues=frozenset(), is_finished=True)
    jobs = _abandoned.decode(connection.execute(SELECT_ABANDONED, {"node": node, "limit": MAX_BATCH}).fetchone()[0])
    error = worker_lost(node)
    changes = [(job, job.after_rescue(is_trusted=job.task in trusted)) for job in jobs]
    transitions.change(connection, [RowChange(job, change, error=error) for job, change in changes], now=now)
    is_finished = len(jobs) < MAX_BATCH
    if is_finished:
        connection.execute(DELETE_NODE, (node,))
    rescued = tuple(job.moved(change, error) for job, change in changes)
    queues = frozenset(job.queue for job in rescued if job.state is State.PENDING)
    return Rescue(jobs=rescued, queues=queues, is_finished=is_finished)


def expire(connection: sqlite3.Connection, *, now: int) -> list[MovedJob]:
    """Fail jobs that were not started in time; see `Backend.expire`."""
    jobs = _expired.decode(connection.execute(SELECT_EXPIRED, {"now": now, "limit": MAX_BATCH}).fetchone()[0])
    transitions.change(connection, [RowChange(job, EXPIRY, error=EXPIRED) for job in jobs], now=now)
    return [
        MovedJob(id=job.id, state=State.FAILED, task=job.task, queue=job.queue, attempt=job.attempt, error=EXPIRED)
        for job in jobs
    ]
