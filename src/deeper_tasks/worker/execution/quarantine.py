"""The quarantine: runs the attempt after a lost one apart, so that a job that kills its process ends no other job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from datetime import timedelta
from typing import Protocol

import msgspec
from msgspec import Struct

from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.domain.stop import Stop
from deeper_tasks.integrations.events import EventBus, JobQuarantined
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.call import Call
from deeper_tasks.worker.execution.executors import Executor
from deeper_tasks.worker.execution.solitude import Solitude
from deeper_tasks.worker.settling.attempt_end import AttemptEnd

_logger = logging.getLogger("deeper_tasks")

_NO_DELAY, _WHILE_OBSTRUCTED = timedelta(0), timedelta(seconds=30)


class NoChildError(Exception):
    """No process can be made for a quarantined attempt; the message says why."""


class Child(Executor, Protocol):
    """
    A process that runs one attempt, as its executor.

    `is_lost` says that the process ended, or was killed, before the handler had ended.
    """

    is_lost: bool


class Nursery(Protocol):
    """Makes the child processes of a quarantine."""

    async def make(self, attempt: Attempt, call: Call) -> Child | None:
        """
        Return a child that is ready to run this attempt; None if the attempt was stopped meanwhile.

        Raises:
            NoChildError: no child can be made.
        """

    async def close(self) -> None:
        """Kill the children that are left."""


class Apart(Struct, frozen=True, kw_only=True):
    """The place of a quarantined attempt: `child`; None means in the worker, with no other attempt beside it."""

    child: Child | None = None


Proceed = Callable[[Apart], Awaitable[AttemptEnd | None]]
"""The attempt itself."""


class Quarantine:
    """
    Has up to `slots` attempts at a time run apart, each in a child process of its own.

    A transactional task, and a task for which no child can be made, runs in the worker with no other beside it.
    Further jobs wait in the store for a worker whose quarantine has a free place. `on_free` is called when
    a place of this one has become free.
    """

    def __init__(
        self, *, slots: int, nursery: Nursery, solitude: Solitude, bus: EventBus, on_free: Callable[[], None]
    ) -> None:
        self._slots = slots
        self._nursery = nursery
        self._solitude = solitude
        self._bus = bus
        self._on_free = on_free
        self._taken = 0
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def free(self) -> int:
        """How many more attempts may run apart now; the worker claims no more quarantined jobs than that."""
        return 0 if self._solitude.is_wanted else max(0, self._slots - self._taken)

    async def run(self, attempt: Attempt, call: Call, proceed: Proceed) -> AttemptEnd | None:
        """Run an attempt apart; if there is no place for it, release its job."""
        if not self.free:
            # Claimed together with another quarantined job, ahead or from another queue.
            return call.released("there is no free place in quarantine")
        self._taken += 1
        child: Child | None = None
        try:
            if call.task.is_transactional:
                return await self._alone(attempt, call, proceed)
            try:
                child = await self._nursery.make(attempt, call)
            except NoChildError as error:
                _logger.warning(
                    "the job %s runs in quarantine inside its worker, because no process can be made for it: %s",
                    call.job.id,
                    error,
                    extra={"job_id": call.job.id, "task": call.job.task, "queue": call.job.queue},
                )
                return await self._alone(attempt, call, proceed)
            return await self._in_child(child, attempt, call, proceed)
        finally:
            if child is None:
                self._leave()
            else:
                self._let_go(child)

    async def close(self) -> None:
        """Wait for the children whose attempts have ended, and kill the others."""
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._nursery.close()

    async def _in_child(self, child: Child | None, attempt: Attempt, call: Call, proceed: Proceed) -> AttemptEnd | None:
        if child is None:
            return _not_begun(attempt, call)
        self._announce(call.job, is_alone=False)
        end = await proceed(Apart(child=child))
        if isinstance(end, Settlement) and child.is_lost:
            # The handler did not end by itself, so it may still be one that kills its worker.
            end = msgspec.structs.replace(end, is_process_lost=True)
        return end

    async def _alone(self, attempt: Attempt, call: Call, proceed: Proceed) -> AttemptEnd | None:
        if not await self._solitude.begin(attempt):
            if attempt.stop is not None:
                return _not_begun(attempt, call)
            delay = _WHILE_OBSTRUCTED if self._solitude.is_obstructed else _NO_DELAY
            return call.released("it cannot run alone in its worker", delay=delay)
        try:
            self._announce(call.job, is_alone=True)
            return await proceed(Apart())
        finally:
            self._solitude.end()

    def _let_go(self, child: Child) -> None:
        """Close a child; its place is free when its process has ended."""
        # In a context of its own, because it outlives the attempt.
        leaving = asyncio.create_task(child.close(), context=Context())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leave)

    def _leave(self, leaving: asyncio.Task[None] | None = None) -> None:
        if leaving is not None:
            self._leaving.discard(leaving)
        self._taken -= 1
        self._on_free()

    def _announce(self, job: ClaimedJob, *, is_alone: bool) -> None:
        if self._bus.wants(JobQuarantined):
            self._bus.emit(
                JobQuarantined(job_id=job.id, task=job.task, queue=job.queue, attempt=job.attempt, is_alone=is_alone)
            )


def _not_begun(attempt: Attempt, call: Call) -> Settlement | None:
    """Return the settlement of an attempt that was stopped before it began; None if its job is lost."""
    return None if attempt.stop is Stop.LOST else verdict.unbegun(call, attempt)
