"""The hints that follow from each change: they wake the workers and schedulers that have something new to do."""

from __future__ import annotations

from collections.abc import Iterable

from deeper_tasks.backends.protocol import Notification, QueueSettings, Retried, Topic
from deeper_tasks.domain.job import NewJob
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, RunNow, Schedule
from deeper_tasks.domain.settlement import MovedJob
from deeper_tasks.domain.state import State

Hints = list[Notification]

_SCHEDULES = Notification(topic=Topic.SCHEDULES)
_CONTROL = Notification(topic=Topic.CONTROL)


def hints_of(jobs: Iterable[NewJob]) -> Hints:
    """Return the hints for new jobs: one a queue for jobs that are due, one for the schedulers for the others."""
    queues: set[str] = set()
    has_delayed = False
    for job in jobs:
        if job.due is not None or job.delay:
            has_delayed = True
        else:
            queues.add(job.spec.queue)
    hints = jobs_in(queues)
    return [*hints, _SCHEDULES] if has_delayed else hints


def jobs_in(queues: Iterable[str]) -> Hints:
    """Return the hints that queues have new pending jobs: for a promotion and for a rescue."""
    return [Notification(topic=Topic.JOBS, subject=queue) for queue in sorted(set(queues))]


def after_cancel(moved: Iterable[MovedJob]) -> Hints:
    """Return the hint for the workers of jobs that are to be cancelled while they run."""
    return [_CONTROL] if any(job.state is State.RUNNING for job in moved) else []


def after_retry(retried: Iterable[Retried]) -> Hints:
    """Return the hints for the queues of jobs that were retried."""
    return jobs_in(job.queue for job in retried)


def after_reschedule(done: Rescheduled | None) -> Hints:
    """Return the hint for the workers of a job that may run now, or for the parts that wait for its due time."""
    if done is None:
        return []
    return jobs_in([done.queue]) if done.state is State.PENDING else [_SCHEDULES]


def after_put_queue(settings: QueueSettings) -> Hints:
    """Return the hint for a queue that was paused or resumed."""
    topic = Topic.JOBS if settings.paused_at is None else Topic.CONTROL
    return [Notification(topic=topic, subject=settings.name)]


def after_new_next_run() -> Hints:
    """Return the hint that a recurring entry was put or resumed: it may be due earlier than schedulers think."""
    return [_SCHEDULES]


def after_fire(schedule: Schedule, fired: Fired | None) -> Hints:
    """Return the hint for the queue of an entry that made jobs."""
    return jobs_in([schedule.spec.queue]) if fired is not None and fired.jobs else []


def after_run(done: RunNow | None) -> Hints:
    """Return the hint for the queue of an entry that was run apart from its due times."""
    return jobs_in([done.entry.schedule.spec.queue]) if done is not None and done.job.is_new else []
