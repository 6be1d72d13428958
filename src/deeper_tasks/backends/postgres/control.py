"""Control: cancel, retry and delete the jobs of a filter, move a job's due time, and keep the settings of a queue."""

from __future__ import annotations

from datetime import datetime, timedelta

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.postgres import transitions
from deeper_tasks.backends.postgres.codec import array, moment_text, plain
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.postgres.moments import BeyondCalendar
from deeper_tasks.backends.postgres.selection import SelectedJob, select
from deeper_tasks.backends.protocol import JobFilter, QueueSettings, Retried
from deeper_tasks.domain.ids import JobId, parse_uuid
from deeper_tasks.domain.rescheduling import Rescheduled, new_due
from deeper_tasks.domain.settlement import MovedJob
from deeper_tasks.domain.state import MAY_BE_RESCHEDULED, MAY_RUN_AGAIN, TERMINAL, State
from deeper_tasks.domain.transitions import MANUAL_RETRY, after_cancel, max_attempts_after_retry

_NOT_ASKED_BEFORE: str = "NOT (job.state = 4 AND job.cancel_requested IS NOT NULL)"
_CANCELLABLE = frozenset(CODES.values()) - {CODES[state] for state in TERMINAL}
_RETRYABLE = frozenset(CODES[state] for state in MAY_RUN_AGAIN)
_RESCHEDULABLE = frozenset(CODES[state] for state in MAY_BE_RESCHEDULED)
_DELETABLE = frozenset(CODES.values()) - {CODES[State.RUNNING]}

LOCK_RESCHEDULABLE = """
SELECT
    job.task, job.queue, job.attempt, job.state, job.scheduled_at, job.expires_at,
    coalesce(%(now)s::timestamptz, now())
FROM job
WHERE job.id = %(id)s::uuid AND job.state + 0 = ANY (%(changeable)s::smallint[])
FOR NO KEY UPDATE
"""
PUT_QUEUE = """
INSERT INTO queue (name, paused_at) VALUES (%(name)s, %(paused_at)s::timestamptz)
ON CONFLICT (name) DO UPDATE
SET paused_at = CASE WHEN excluded.paused_at IS NOT NULL THEN coalesce(queue.paused_at, excluded.paused_at) END
"""


async def cancel(transaction: Transaction, target: JobFilter, *, reason: str, now: str | None) -> list[MovedJob]:
    """Cancel the jobs of a filter, or request it; see `Backend.cancel`."""
    jobs = await select(transaction, target, _CANCELLABLE, is_open=_NOT_ASKED_BEFORE)
    reason = plain(reason)
    changes = [job.transition(after_cancel(STATES[job.state])) for job in jobs]
    await transitions.write(transaction, changes, now=now, cancel_reason=reason)
    return [_cancelled(job, after.change.state, reason) for job, after in zip(jobs, changes, strict=True)]


def _cancelled(job: SelectedJob, state: State | None, reason: str) -> MovedJob:
    assert state is not None
    return MovedJob(
        id=job.id,
        state=state,
        task=job.task,
        queue=job.queue,
        attempt=job.attempt,
        cancel_reason=reason if job.cancel_requested is None else job.cancel_requested,
    )


async def retry(transaction: Transaction, target: JobFilter, *, now: str | None) -> list[Retried]:
    """Make ended jobs pending again; see `Backend.retry`."""
    jobs = await select(transaction, target, _RETRYABLE)
    changes = [
        job.transition(MANUAL_RETRY, max_attempts=max_attempts_after_retry(job.attempt, job.original_max_attempts))
        for job in jobs
    ]
    await transitions.write(transaction, changes, now=now)
    return [Retried(id=job.id, queue=job.queue) for job in jobs]


async def reschedule(
    transaction: Transaction, job_id: JobId, *, due: datetime | timedelta | None, now: str | None
) -> Rescheduled | None:
    """Move the due time of a waiting job; see `Backend.reschedule`."""
    known = parse_uuid(job_id)
    if known is None:
        return None
    values = {"id": known, "changeable": array(_RESCHEDULABLE), "now": now}
    row = await transaction.row(LOCK_RESCHEDULABLE, values)
    if row is None:
        return None
    task, queue, attempt, code, scheduled_at, expires_at, moment = row
    before = STATES[code]
    new = new_due(before, due=due, scheduled_at=_readable(scheduled_at), expires_at=_readable(expires_at), now=moment)
    if new is not None:
        await transitions.move_due_time(transaction, known, new, queue=queue, before=before, now=now)
    return Rescheduled(
        id=known,
        task=task,
        queue=queue,
        attempt=attempt,
        before=before,
        state=before if new is None else new.state,
        scheduled_at=scheduled_at if new is None else new.scheduled_at,
    )


def _readable(moment: datetime | None) -> datetime | None:
    """Return a moment of the calendar; None for one beyond it, whose distance from others is not known."""
    return None if isinstance(moment, BeyondCalendar) else moment


async def delete(transaction: Transaction, target: JobFilter) -> list[JobId]:
    """Delete the jobs of a filter that do not run; see `Backend.delete`."""
    jobs = await select(transaction, target, _DELETABLE)
    return await transitions.delete(transaction, [job.id for job in jobs], states=_DELETABLE, now=None)


async def put_queue(transaction: Transaction, settings: QueueSettings) -> None:
    """Write the settings of a queue; see `Backend.put_queue`."""
    await transaction.execute(PUT_QUEUE, {"name": plain(settings.name), "paused_at": moment_text(settings.paused_at)})
