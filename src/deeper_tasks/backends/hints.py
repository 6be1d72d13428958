"""The hints of jobs: who is to be woken for them."""

from __future__ import annotations

from collections.abc import Iterable

from deeper_tasks.backends.protocol import Notification, Topic
from deeper_tasks.domain.job import NewJob


def hints_of(jobs: Iterable[NewJob]) -> list[Notification]:
    """Return the hints for new jobs: each queue that has work at once, and the schedules for what is due later."""
    queues: set[str] = set()
    has_delayed = False
    for job in jobs:
        if job.due is not None or job.delay:
            has_delayed = True
        else:
            queues.add(job.spec.queue)
    hints = [Notification(topic=Topic.JOBS, subject=queue) for queue in sorted(queues)]
    return [*hints, Notification(topic=Topic.SCHEDULES)] if has_delayed else hints
