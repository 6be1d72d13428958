"""The operator: changes jobs that are there already, one or many, and wakes whom that concerns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sized
from datetime import datetime

import msgspec

from deeper_tasks.backends.protocol import (
    MAX_BATCH,
    Backend,
    JobFilter,
    JobQuery,
    Notification,
    QueueSettings,
    Retention,
    Topic,
)
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.state import State
from deeper_tasks.errors import InvalidTransitionError, JobNotFoundError
from deeper_tasks.integrations.events import EventBus, JobCancelled
from deeper_tasks.manager.views import CancelOutcome

OnProgress = Callable[[int], object]
"""Called after each batch with how many jobs there were so far."""


class Operator:
    """Cancels, retries, deletes, pauses and cleans up. The store is open."""

    def __init__(self, *, backend: Backend, bus: EventBus) -> None:
        self._backend = backend
        self._bus = bus

    async def cancel(self, job_id: JobId, *, reason: str) -> CancelOutcome:
        """Cancel one job. Raises JobNotFoundError or InvalidTransitionError."""
        outcomes = await self._cancel(JobFilter(ids=(job_id,)), reason)
        if not outcomes:
            await self._refuse(job_id, "cancelled")
        return outcomes[job_id]

    async def cancel_all(self, target: JobFilter, *, reason: str, on_progress: OnProgress | None = None) -> int:
        """Cancel all jobs meant; returns how many."""
        return await _until_few(lambda: self._cancel(target, reason), on_progress)

    async def retry(self, job_id: JobId) -> None:
        """Retry one job. Raises JobNotFoundError or InvalidTransitionError."""
        if not await self._retry(JobFilter(ids=(job_id,))):
            await self._refuse(job_id, "retried")

    async def retry_all(self, target: JobFilter, *, on_progress: OnProgress | None = None) -> int:
        """Retry all jobs meant, each once however soon it fails again; returns how many."""
        retried, place = 0, None
        while True:
            page = await self._backend.find(JobQuery(filter=target, is_descending=False, limit=MAX_BATCH, after=place))
            ids = tuple(job.id for job in page.jobs)
            if ids:
                retried += len(await self._retry(msgspec.structs.replace(target, ids=ids)))
                if on_progress is not None:
                    on_progress(retried)
            if page.next is None:
                return retried
            place = page.next

    async def delete(self, job_id: JobId) -> None:
        """Delete one job. Raises JobNotFoundError or InvalidTransitionError."""
        if not await self._backend.delete(JobFilter(ids=(job_id,))):
            await self._refuse(job_id, "deleted")

    async def delete_all(self, target: JobFilter, *, on_progress: OnProgress | None = None) -> int:
        """Delete all jobs meant; returns how many."""
        return await _until_few(lambda: self._backend.delete(target), on_progress)

    async def clean_up(self, retention: Retention) -> int:
        """Delete all ended jobs past their retention; returns how many."""
        deleted = 0
        while count := await self._backend.prune(retention):
            deleted += count
        return deleted

    async def set_queue(self, name: str, *, paused_at: datetime | None) -> None:
        """Pause or resume a queue."""
        await self._backend.put_queue(QueueSettings(name=name, paused_at=paused_at))
        topic = Topic.JOBS if paused_at is None else Topic.CONTROL
        await self._backend.notify([Notification(topic=topic, subject=name)])

    async def _cancel(self, target: JobFilter, reason: str) -> dict[JobId, CancelOutcome]:
        settled = await self._backend.cancel(target, reason=reason)
        outcomes = {
            job.id: CancelOutcome.REQUESTED if job.state is State.RUNNING else CancelOutcome.CANCELLED
            for job in settled
        }
        if CancelOutcome.REQUESTED in outcomes.values():
            await self._backend.notify([Notification(topic=Topic.CONTROL)])
        for job_id, outcome in outcomes.items():
            if outcome is CancelOutcome.CANCELLED:
                self._bus.emit(JobCancelled(job_id=job_id, reason=reason))
        return outcomes

    async def _retry(self, target: JobFilter) -> Sized:
        retried = await self._backend.retry(target)
        queues = sorted({job.queue for job in retried})
        await self._backend.notify([Notification(topic=Topic.JOBS, subject=queue) for queue in queues])
        return retried

    async def _refuse(self, job_id: JobId, what: str) -> None:
        job = await self._backend.get(job_id)
        if job is None:
            raise JobNotFoundError(f"no job has the id {job_id!r}; it may have been cleaned up")
        raise InvalidTransitionError(f"the job {job_id} is {job.state} and cannot be {what}")


async def _until_few(change: Callable[[], Awaitable[Sized]], on_progress: OnProgress | None) -> int:
    """Change batch after batch, until one is not full."""
    changed = 0
    while True:
        count = len(await change())
        changed += count
        if count and on_progress is not None:
            on_progress(changed)
        if count < MAX_BATCH:
            return changed
