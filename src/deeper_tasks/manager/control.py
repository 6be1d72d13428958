"""Job control: change jobs that are in the store already, one or many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sized
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import msgspec

from deeper_tasks.backends.protocol import (
    Backend,
    Compacting,
    JobFilter,
    JobQuery,
    QueueSettings,
    Retention,
    SortKey,
)
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.state import MAY_RUN_AGAIN, TERMINAL, State
from deeper_tasks.errors import InvalidTransitionError, JobNotFoundError
from deeper_tasks.integrations.events import (
    CleanupRan,
    EventBus,
    JobCancelled,
    JobRescheduled,
    QueuePaused,
    QueueResumed,
)
from deeper_tasks.manager.progress import OnProgress, Tally
from deeper_tasks.manager.views import CancelOutcome

_LIVE = frozenset(State) - TERMINAL


class JobControl:
    """Cancels, retries, reschedules, deletes, pauses and cleans up. The store is open."""

    def __init__(self, *, backend: Backend, bus: EventBus) -> None:
        self._backend = backend
        self._bus = bus
        self._max_batch = backend.capabilities.max_batch

    async def cancel(self, job_id: JobId, *, reason: str) -> CancelOutcome:
        """Cancel one job. Raises JobNotFoundError or InvalidTransitionError."""
        outcomes = await self._cancel(JobFilter(ids=(job_id,)), reason)
        if not outcomes:
            await self._refuse(job_id, "cancelled")
        return outcomes[job_id]

    async def cancel_all(self, target: JobFilter, *, reason: str, on_progress: OnProgress | None = None) -> int:
        """Cancel all jobs of the target; return their number."""
        count = Tally(on_progress)
        await self._until_few(lambda: self._cancel(_narrowed(target, _LIVE), reason), count)
        return count.value

    async def retry(self, job_id: JobId) -> None:
        """Retry one job. Raises JobNotFoundError or InvalidTransitionError."""
        if not await self._retry(JobFilter(ids=(job_id,))):
            await self._refuse(job_id, "retried")

    async def retry_all(self, target: JobFilter, *, on_progress: OnProgress | None = None) -> int:
        """Retry all jobs of the target, each once even if it soon fails again; return their number."""
        count = Tally(on_progress)
        async for batch in self._ended(target, MAY_RUN_AGAIN):
            count.add(len(await self._retry(batch)))
        return count.value

    async def reschedule(self, job_id: JobId, due: datetime | timedelta) -> datetime:
        """Give one job another due time; return it. Raises JobNotFoundError or InvalidTransitionError."""
        done = await self._backend.reschedule(job_id, due=due)
        if done is None:
            await self._refuse(job_id, "rescheduled")
        await self._tell(done)
        return done.scheduled_at.astimezone(UTC)

    async def run_now(self, job_id: JobId) -> None:
        """End the delay of one job. Raises JobNotFoundError or InvalidTransitionError."""
        done = await self._backend.reschedule(job_id, due=None)
        if done is None:
            await self._refuse(job_id, "run now")
        await self._tell(done, is_new=done.before is not State.PENDING)

    async def delete(self, job_id: JobId) -> None:
        """Delete one job. Raises JobNotFoundError or InvalidTransitionError."""
        if not await self._backend.delete(JobFilter(ids=(job_id,))):
            await self._refuse(job_id, "deleted")

    async def delete_all(self, target: JobFilter, *, on_progress: OnProgress | None = None) -> int:
        """Delete all jobs of the target; return their number."""
        count = Tally(on_progress)
        await self._until_few(lambda: self._backend.delete(_narrowed(target, _LIVE)), count)
        async for batch in self._ended(target, TERMINAL):
            count.add(len(await self._backend.delete(batch)))
        return count.value

    async def clean_up(self, retention: Retention, *, on_progress: OnProgress | None = None) -> int:
        """Delete all ended jobs past their retention; return their number. One event reports them, also on an error."""
        count = Tally(on_progress)
        began = started = time.monotonic()
        try:
            while deleted := await self._backend.prune(retention):
                count.add(deleted)
                # As long as the batch took, so that workers have at least half of the store's time.
                await asyncio.sleep(time.monotonic() - started)
                started = time.monotonic()
        finally:
            took = timedelta(seconds=time.monotonic() - began)
            self._bus.emit(CleanupRan(deleted=count.value, took=took, is_manual=True))
        return count.value

    async def compact(self) -> int:
        """Have the store give unused space back, if it does not do so by itself; return the number of bytes."""
        return await self._backend.compact() if isinstance(self._backend, Compacting) else 0

    async def set_queue(self, name: str, *, paused_at: datetime | None) -> None:
        """Pause or resume a queue."""
        await self._backend.put_queue(QueueSettings(name=name, paused_at=paused_at))
        self._bus.emit(QueueResumed(queue=name) if paused_at is None else QueuePaused(queue=name))

    async def _ended(self, target: JobFilter, states: frozenset[State]) -> AsyncIterator[JobFilter]:
        """
        Yield the ended jobs of the target batch by batch, as a filter with the target's conditions and their ids.

        The latest ended come first. A job that ends again meanwhile then lies before all batches to come, so it comes
        once.
        """
        wanted, place = _narrowed(target, states), None
        while True:
            page = await self._backend.find(
                JobQuery(filter=wanted, sort_by=SortKey.FINISHED_AT, limit=self._max_batch, after=place)
            )
            if page.jobs:
                yield msgspec.structs.replace(wanted, ids=tuple(job.id for job in page.jobs))
            if page.next is None:
                return
            place = page.next

    async def _cancel(self, target: JobFilter, reason: str) -> dict[JobId, CancelOutcome]:
        moved = await self._backend.cancel(target, reason=reason)
        outcomes = {
            job.id: CancelOutcome.REQUESTED if job.state is State.RUNNING else CancelOutcome.CANCELLED for job in moved
        }
        for job in moved:
            if job.state is State.CANCELLED:
                self._bus.emit(
                    JobCancelled(job_id=job.id, task=job.task, queue=job.queue, attempt=job.attempt, reason=reason)
                )
        return outcomes

    async def _retry(self, target: JobFilter) -> Sized:
        return await self._backend.retry(target)

    async def _tell(self, done: Rescheduled, *, is_new: bool = True) -> None:
        """Emit the event of a job that has another due time."""
        if is_new:
            self._bus.emit(
                JobRescheduled(
                    job_id=done.id,
                    task=done.task,
                    queue=done.queue,
                    attempt=done.attempt,
                    state=done.state,
                    scheduled_at=done.scheduled_at,
                )
            )

    async def _until_few(self, change: Callable[[], Awaitable[Sized]], count: Tally) -> None:
        """Change batch after batch, until one is not full."""
        while True:
            number = len(await change())
            count.add(number)
            if number < self._max_batch:
                return

    async def _refuse(self, job_id: JobId, what: str) -> NoReturn:
        job = await self._backend.get(job_id)
        if job is None:
            raise JobNotFoundError(f"no job has the id {job_id!r}; it may have been cleaned up")
        raise InvalidTransitionError(f"the job {job_id} is {job.state} and cannot be {what}")


def _narrowed(target: JobFilter, states: frozenset[State]) -> JobFilter:
    """Return the filter for the jobs in these states, so that the store need not look at others."""
    wanted = states if target.states is None else target.states & states
    return msgspec.structs.replace(target, states=wanted)
