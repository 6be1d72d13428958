"""The producer: enqueues calls, and wakes those who wait for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from deeper_tasks.backends.protocol import Backend, Notification, Topic
from deeper_tasks.config import Settings
from deeper_tasks.domain.job import Insertion, NewJob
from deeper_tasks.integrations.events import EventBus, JobEnqueued
from deeper_tasks.manager.jobs import AnyTask, JobFactory
from deeper_tasks.tasks import JobRequest, TaskCall, TaskId


class Producer:
    """Turns calls into jobs and inserts them."""

    def __init__(self, *, backend: Backend, settings: Settings, bus: EventBus) -> None:
        self._backend = backend
        self._bus = bus
        self.jobs = JobFactory(settings)

    def survive_fork(self) -> None:
        """Make the child of a fork usable."""
        self.jobs.ids.renew_lock()

    async def enqueue(
        self,
        task: AnyTask,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        request: JobRequest,
        moment: datetime | timedelta | None = None,
    ) -> TaskId:
        """Enqueue one call."""
        job = self.jobs.job(self.jobs.spec(task, args, kwargs, request), request, moment)
        return (await self._insert([job], atomic=True))[0]

    async def enqueue_many(self, calls: Sequence[TaskCall], *, atomic: bool) -> list[TaskId]:
        """Enqueue calls, all checked before the first is sent."""
        jobs = [
            self.jobs.job(self.jobs.spec(call.task, call.args, call.kwargs, call.request), call.request)
            for call in calls
        ]
        return await self._insert(jobs, atomic=atomic)

    async def _insert(self, jobs: list[NewJob], *, atomic: bool) -> list[TaskId]:
        answers = await self._backend.insert(jobs, atomic=atomic)
        await self._backend.notify(_hints(jobs, answers))
        if self._bus.wants(JobEnqueued):
            for job, answer in zip(jobs, answers, strict=True):
                self._bus.emit(
                    JobEnqueued(
                        job_id=answer.id,
                        task=job.spec.task,
                        queue=job.spec.queue,
                        is_new=answer.is_new,
                        scheduled_at=job.due,
                        delay=job.delay,
                    )
                )
        return [TaskId(answer.id, is_new=answer.is_new) for answer in answers]


def _hints(jobs: Sequence[NewJob], answers: Sequence[Insertion]) -> list[Notification]:
    queues: set[str] = set()
    has_delayed = False
    for job, answer in zip(jobs, answers, strict=True):
        if not answer.is_new:
            continue
        if job.due is not None or job.delay:
            has_delayed = True
        else:
            queues.add(job.spec.queue)
    hints = [Notification(topic=Topic.JOBS, subject=queue) for queue in sorted(queues)]
    return [*hints, Notification(topic=Topic.SCHEDULES)] if has_delayed else hints
