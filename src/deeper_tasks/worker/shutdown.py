"""The shutdown of a worker: waits for its running jobs, interrupts the rest, and releases what cannot be stopped."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.stop import Stop
from deeper_tasks.integrations.events import WorkerStopping
from deeper_tasks.worker.assembly import WorkerParts
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution.verdict import SHUTTING_DOWN
from deeper_tasks.worker.liveness.certain_end import end_within
from deeper_tasks.worker.liveness.last_resort import LAST_WORDS

_logger = logging.getLogger("deeper_tasks")

_PAUSE = 0.02
_LAST_SETTLES = 3.0
"""Seconds for the settlements that are written after everything else has ended."""
_ENDS_WITHIN, _FREE_AFTER = 8.0, timedelta(seconds=10)
"""
Seconds within which a process ends that releases jobs whose code still runs in it, and the delay after which they may
start elsewhere. The process has ended before that, so no job runs twice at a time.
"""


class Shutdown:
    """Ends the jobs of one worker, in two steps: `wind_down`, and `release_unstoppable` as the last write."""

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._clock = parts.store.clock

    async def wind_down(self) -> None:
        """Wait for the request to stop; then return when no job runs, or none of those that run stops."""
        parts = self._parts
        await parts.stop_request.requested.wait()
        parts.consumers.drain()
        parts.announcer.announce(WorkerStopping, running=len(parts.running))
        await self._until_idle(parts.settings.shutdown_grace.total_seconds(), unless=parts.stop_request.is_urgent)
        parts.consumers.stop_running(Stop.SHUTDOWN, "the worker shuts down")
        await self._until_idle(LAST_WORDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await parts.settler.wait_until_idle()

    async def _until_idle(self, seconds: float, *, unless: asyncio.Event | None = None) -> None:
        deadline = self._clock.monotonic() + seconds
        while self._is_busy:
            if self._clock.monotonic() >= deadline or (unless is not None and unless.is_set()):
                return
            await self._clock.sleep(_PAUSE, until=asyncio.Event())

    @property
    def _is_busy(self) -> bool:
        parts = self._parts
        if parts.stop_request.stuck_because is not None and all(attempt.ignored for attempt in parts.running.all()):
            # The attempts that are left do not end, and would use up the grace period.
            return parts.consumers.is_claiming
        return parts.consumers.is_busy

    async def release_unstoppable(self) -> None:
        """
        Release the jobs that run on in this process, if the process is the worker's own and ends with it.

        Settlements that are left are written too. Jobs that cannot be released are left to be rescued.
        """
        settler = self._parts.settler
        unstoppable = self._parts.running.all()
        released = [attempt for attempt in unstoppable if self._parts.owns_process and self._can_be_released(attempt)]
        if released:
            end_within(_ENDS_WITHIN)
        for attempt in released:
            job = attempt.job
            settlement = Settlement(
                id=job.id, token=job.token, end=End.RELEASE, delay=_FREE_AFTER, reason=SHUTTING_DOWN
            )
            settler.put(job, settlement)
        if settler.unsettled:
            await self._settle_the_rest()
        unwritten = settler.ends
        for attempt in unstoppable:
            _log_unstoppable(
                attempt, is_released=attempt in released and (attempt.job.id, attempt.job.token) not in unwritten
            )

    async def _settle_the_rest(self) -> None:
        settler = self._parts.settler
        settling = asyncio.create_task(settler.run())
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SETTLES):
                await settler.wait_until_idle()
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)

    def _can_be_released(self, attempt: Attempt) -> bool:
        """Whether nothing but the stop of the worker ends an attempt, and no transaction of its own locks its row."""
        if attempt.stop is not Stop.SHUTDOWN:
            return False
        task = self._parts.collaborators.registry.resolve_for_run(attempt.job.task)
        return task is not None and not task.is_transactional


def _log_unstoppable(attempt: Attempt, *, is_released: bool) -> None:
    job_id = attempt.job.id
    if is_released:
        level, words = logging.WARNING, "its process ends with it, and it starts again in 10 s at the earliest"
    else:
        level, words = logging.ERROR, "it is left to be rescued"
    _logger.log(level, "the job %s did not stop; %s", job_id, words, extra={"job_id": job_id})
