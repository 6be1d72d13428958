"""Maintenance: promote, fold, rescue and expire. Any number of workers may call each at the same time."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.postgres import transitions
from deeper_tasks.backends.postgres.database import Database, Transaction
from deeper_tasks.backends.postgres.nodes import DEREGISTER, LOCK_NODE
from deeper_tasks.backends.postgres.transitions import Transition
from deeper_tasks.backends.protocol import MAX_BATCH, Promotion, Rescue
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.job import EXPIRED
from deeper_tasks.domain.settlement import MovedJob, worker_lost
from deeper_tasks.domain.state import State
from deeper_tasks.domain.transitions import EXPIRY, after_rescue

PROMOTE = "SELECT queue, count, next_due_in FROM {schema}.promote(%(limit)s::text::integer, %(now)s::timestamptz)"
FOLD = "SELECT {schema}.fold()"
MARK_LOST = """
UPDATE node SET is_lost = true
WHERE id = (
    SELECT id FROM node WHERE id = %(node)s AND (is_lost OR beat = %(beat)s) FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING number
"""
"""Skips a node whose row another transaction has locked: its heartbeats wait for that lock, and would come too late."""
SELECT_ABANDONED = """
SELECT id::text, queue, unique_key, task, attempt, max_attempts, attempted_at IS NOT NULL, cancel_requested
FROM job
WHERE state = 4 AND node = %(number)s
ORDER BY token
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED
"""
SELECT_EXPIRED = """
SELECT id::text, queue, state, unique_key, task, attempt
FROM job
WHERE expires_at IS NOT NULL AND state IN (3, 5) AND expires_at <= coalesce(%(now)s::timestamptz, now())
ORDER BY expires_at
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED
"""


async def promote(database: Database, *, now: str | None) -> Promotion:
    """Make due jobs pending; see `Backend.promote`."""
    rows = await database.call(PROMOTE, {"limit": str(MAX_BATCH), "now": now})
    counts = {queue: count for queue, count, _ in rows if queue is not None}
    next_due_in = [timedelta(microseconds=microseconds) for queue, _, microseconds in rows if queue is None]
    return Promotion(
        count=int(sum(counts.values())),
        queues=frozenset(counts),
        next_due_in=next_due_in[0] if next_due_in else None,
    )


async def fold(database: Database) -> bool:
    """Add the moves of jobs to the counters; see `Folding.fold`."""
    [(has_more,)] = await database.call(FOLD, {})
    return bool(has_more)


async def rescue(
    transaction: Transaction, node: NodeId, *, beat: int, trusted: Collection[str], now: str | None
) -> Rescue:
    """Take the jobs of a dead node; see `Backend.rescue`."""
    # The lock is exclusive: claims of this node that are under way have ended, and later ones see that it is lost.
    await transaction.rows(LOCK_NODE, {"node": node})
    marked = await transaction.row(MARK_LOST, {"node": node, "beat": beat})
    if marked is None:
        return Rescue(jobs=(), queues=frozenset(), is_finished=True)
    rows = await transaction.rows(SELECT_ABANDONED, {"number": marked[0], "limit": MAX_BATCH})
    error = worker_lost(node)
    changes: list[Transition] = []
    rescued: list[MovedJob] = []
    for job_id, queue, unique_key, task, attempt, max_attempts, has_started, cancel_reason in rows:
        change = after_rescue(
            attempt=attempt,
            max_attempts=max_attempts,
            has_started=has_started,
            is_cancel_requested=cancel_reason is not None,
            is_trusted=task in trusted,
        )
        assert change.state is not None
        changes.append(Transition(job_id, queue, CODES[State.RUNNING], unique_key, change))
        rescued.append(
            MovedJob(
                id=job_id,
                state=change.state,
                task=task,
                queue=queue,
                attempt=attempt,
                error=error if change.keeps_error else None,
                cancel_reason=cancel_reason,
            )
        )
    await transitions.write(transaction, changes, now=now, error=error)
    is_finished = len(rows) < MAX_BATCH
    if is_finished:
        # The node stays if a job was skipped whose row another transaction has locked: the next rescue takes that job.
        await transaction.execute(DEREGISTER, {"node": node})
    queues = frozenset(job.queue for job in rescued if job.state is State.PENDING)
    return Rescue(jobs=tuple(rescued), queues=queues, is_finished=is_finished)


async def expire(transaction: Transaction, *, now: str | None) -> list[MovedJob]:
    """Fail jobs that were not started before they expired; see `Backend.expire`."""
    jobs = await transaction.rows(SELECT_EXPIRED, {"now": now, "limit": MAX_BATCH})
    changes = [Transition(job_id, queue, state, unique_key, EXPIRY) for job_id, queue, state, unique_key, _, _ in jobs]
    await transitions.write(transaction, changes, now=now, error=EXPIRED)
    return [
        MovedJob(id=job_id, state=State.FAILED, task=task, queue=queue, attempt=attempt, error=EXPIRED)
        for job_id, queue, _, _, task, attempt in jobs
    ]
