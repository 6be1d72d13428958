"""The hints that follow from each change: they wake the workers and schedulers that have something new to do."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from deeper_tasks.backends.protocol import Notification, QueueSettings, Retried, Topic
from deeper_tasks.domain.job import NewJob
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, RunNow, Schedule
from deeper_tasks.domain.settlement import MovedJob
from deeper_tasks.domain.state import AWAITS_ITS_TIME, State
from deeper_tasks.domain.transitions import state_of_new

CLOCK_TOLERANCE = timedelta(minutes=1)
"""How far the clocks of a store and of its callers may differ before a hint of new jobs is a wrong one."""

Hints = list[Notification]

GoesOn = tuple[str, State, timedelta]
"""A job whose attempt was no completion: its queue, the state that followed, and the delay of its settlement."""

SOON = timedelta(seconds=1)
"""A job that is put off for less is hinted at. Those that wait longer are found by the polls before they are due."""

_SCHEDULES = Notification(topic=Topic.SCHEDULES)
_CONTROL = Notification(topic=Topic.CONTROL)
_NO_DELAY = timedelta(0)


def after_insert(jobs: Iterable[NewJob], *, now: datetime) -> Hints:
    """
    Return the hints for new jobs: one a queue for those that are pending, one for the schedulers for those that wait.

    `now` is the moment of the insert, as the store took it.
    """
    pending: set[str] = set()
    is_one_scheduled = False
    for job in jobs:
        if _is_due_by_itself(job) or state_of_new(is_due=job.due_at(now) <= now) is State.PENDING:
            pending.add(job.spec.queue)
        else:
            is_one_scheduled = True
    return _of(pending, is_one_scheduled=is_one_scheduled)


def after_insert_elsewhere(jobs: Iterable[NewJob], *, now: datetime) -> Hints:
    """
    Return the hints for new jobs whose moment of insert is not known: another clock gave it, or it was some time ago.

    A job with a due time that may have passed at the insert, or not, has both hints: one too many costs a look into
    the store, one too few a wait until the next poll.
    """
    pending: set[str] = set()
    is_one_scheduled = False
    for job in jobs:
        if _is_due_by_itself(job):
            pending.add(job.spec.queue)
            continue
        is_one_scheduled = True
        if job.due is not None and job.due <= now + CLOCK_TOLERANCE:
            pending.add(job.spec.queue)
    return _of(pending, is_one_scheduled=is_one_scheduled)


def _is_due_by_itself(job: NewJob) -> bool:
    """Return whether a job is pending whenever it is inserted: nearly all jobs."""
    return job.due is None and job.delay <= _NO_DELAY


def _of(pending: set[str], *, is_one_scheduled: bool) -> Hints:
    hints = new_pending(pending)
    return [*hints, _SCHEDULES] if is_one_scheduled else hints


def new_pending(queues: Iterable[str]) -> Hints:
    """Return the hints that queues have new pending jobs: for a promotion and for a rescue."""
    return [Notification(topic=Topic.JOBS, subject=queue) for queue in sorted(set(queues))]


def after_settle(jobs: Iterable[GoesOn]) -> Hints:
    """Return the hints for jobs that were given back, and for jobs whose next attempt is due before a poll finds it."""
    pending: set[str] = set()
    is_one_due_soon = False
    for queue, state, delay in jobs:
        if state is State.PENDING:
            pending.add(queue)
        elif state in AWAITS_ITS_TIME and delay < SOON:
            is_one_due_soon = True
    return _of(pending, is_one_scheduled=is_one_due_soon)


def after_cancel(moved: Iterable[MovedJob]) -> Hints:
    """Return the hint for the workers of jobs that are to be cancelled while they run."""
    return [_CONTROL] if any(job.state is State.RUNNING for job in moved) else []


def after_retry(retried: Iterable[Retried]) -> Hints:
    """Return the hints for the queues of jobs that were retried."""
    return new_pending(job.queue for job in retried)


def after_reschedule(done: Rescheduled | None) -> Hints:
    """Return the hint for the workers of a job that may run now, or for the parts that wait for its due time."""
    if done is None:
        return []
    return new_pending([done.queue]) if done.state is State.PENDING else [_SCHEDULES]


def after_put_queue(settings: QueueSettings) -> Hints:
    """Return the hint for a queue that was paused or resumed."""
    topic = Topic.JOBS if settings.paused_at is None else Topic.CONTROL
    return [Notification(topic=topic, subject=settings.name)]


def after_new_next_run() -> Hints:
    """Return the hint that a recurring entry was put or resumed: it may be due earlier than schedulers think."""
    return [_SCHEDULES]


def after_fire(schedule: Schedule, fired: Fired | None) -> Hints:
    """Return the hint for the queue of an entry that made jobs."""
    return new_pending([schedule.spec.queue]) if fired is not None and fired.jobs else []


def after_run(done: RunNow | None) -> Hints:
    """Return the hint for the queue of an entry that was run apart from its due times."""
    return new_pending([done.entry.schedule.spec.queue]) if done is not None and done.job.is_new else []
