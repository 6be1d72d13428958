"""Maintain: promote, rescue, expire. Any number of workers may do it at once. Deletions are in `pruning.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import timedelta
from typing import NamedTuple

import msgspec

from deeper_tasks.backends.codes import CODES, Mark
from deeper_tasks.backends.protocol import MAX_BATCH, Promotion, Rescue
from deeper_tasks.backends.sqlite import transitions
from deeper_tasks.backends.sqlite.row_changes import RowChange, error_document
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import EXPIRED
from deeper_tasks.domain.settlement import MovedJob, is_spared_by_rescue, state_after_rescue, worker_lost
from deeper_tasks.domain.state import State

_RUNNING, _FAILED = CODES[State.RUNNING], CODES[State.FAILED]

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
    changes: list[tuple[_AbandonedJob, RowChange]] = []
    rescued: list[MovedJob] = []
    for job in jobs:
        attempt, most, has_started = job.attempt, job.max_attempts, job.has_started
        is_spared = is_spared_by_rescue(attempt=attempt, max_attempts=most, has_started=has_started)
        is_cancel_requested = job.cancel_requested is not None
        state = state_after_rescue(
            attempt=attempt, max_attempts=most, has_started=has_started, is_cancel_requested=is_cancel_requested
        )
        change = RowChange(
            rowid=job.rowid,
            state=CODES[state],
            attempts_taken_back=int(is_spared),
            finished_at=now if state.is_terminal else None,
            error=None if is_spared else error_document(error, attempt=job.attempt, now=now),
            drops_token=True,
            mark=Mark.QUARANTINED if has_started and job.task not in trusted else None,
        )
        changes.append((job, change))
        rescued.append(
            MovedJob(
                id=job.id,
                state=state,
                task=job.task,
                queue=job.queue,
                attempt=attempt,
                error=None if is_spared else error,
                cancel_reason=job.cancel_requested,
            )
        )
    transitions.change(connection, changes, now=now)
    is_finished = len(jobs) < MAX_BATCH
    if is_finished:
        connection.execute(DELETE_NODE, (node,))
    queues = frozenset(job.queue for job in rescued if job.state is State.PENDING)
    return Rescue(jobs=tuple(rescued), queues=queues, is_finished=is_finished)


def expire(connection: sqlite3.Connection, *, now: int) -> list[MovedJob]:
    """Fail jobs that were not started in time; see `Backend.expire`."""
    jobs = _expired.decode(connection.execute(SELECT_EXPIRED, {"now": now, "limit": MAX_BATCH}).fetchone()[0])
    changes = [
        (
            job,
            RowChange(
                rowid=job.rowid,
                state=_FAILED,
                finished_at=now,
                error=error_document(EXPIRED, attempt=job.attempt, now=now),
            ),
        )
        for job in jobs
    ]
    transitions.change(connection, changes, now=now)
    return [
        MovedJob(id=job.id, state=State.FAILED, task=job.task, queue=job.queue, attempt=job.attempt, error=EXPIRED)
        for job in jobs
    ]
