"""The solitude: has one attempt run with no other beside it in its worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.clock import Clock

_logger = logging.getLogger("deeper_tasks")

_LOOK = 0.05


class Solitude:
    """
    Gives the worker to one attempt at a time: no job is claimed or started, and running jobs end first.

    `on_change` is called when `is_wanted` has changed: the consumers then release their jobs, or claim again.
    """

    def __init__(
        self,
        *,
        running: Callable[[], Iterable[Attempt]],
        clock: Clock,
        is_stopping: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        self.is_wanted = False
        """Whether an attempt waits for the worker, or has it. No other attempt may start then."""
        self.is_obstructed = False
        """Whether the last attempt gave up because another one ignores its timeout."""
        self._running = running
        self._clock = clock
        self._is_stopping = is_stopping
        self._on_change = on_change

    async def begin(self, attempt: Attempt) -> bool:
        """
        Wait until no other attempt runs here; True if none will run until `end`.

        False: another attempt has the worker or waits for it, a stop of this attempt or of the worker was requested, or
        an attempt that ignores its timeout obstructs it.
        """
        if self.is_wanted or (self.is_obstructed and self._is_beside_a_stuck_one(attempt)):
            return False
        self._change(is_wanted=True)
        self.is_obstructed = is_alone = False
        try:
            is_alone = await self._wait(attempt)
        finally:
            if not is_alone:
                self._change(is_wanted=False)
        return is_alone

    def end(self) -> None:
        """Let other attempts start again."""
        self._change(is_wanted=False)

    async def _wait(self, attempt: Attempt) -> bool:
        count = len(self._others(attempt))
        if count:
            _logger.info(
                "job waiting to run alone: %s; no job starts until the %d running ones have ended",
                attempt.job.id,
                count,
                extra={"job_id": attempt.job.id},
            )
        while self._others(attempt) and not self._should_stop(attempt):
            if self._is_beside_a_stuck_one(attempt):
                self.is_obstructed = True
                return False
            await self._clock.sleep(_LOOK, until=asyncio.Event())
        return not self._should_stop(attempt)

    def _should_stop(self, attempt: Attempt) -> bool:
        return attempt.stop is not None or self._is_stopping()

    def _others(self, attempt: Attempt) -> list[Attempt]:
        return [other for other in self._running() if other is not attempt]

    def _is_beside_a_stuck_one(self, attempt: Attempt) -> bool:
        return any(other.ignored for other in self._others(attempt))

    def _change(self, *, is_wanted: bool) -> None:
        self.is_wanted = is_wanted
        self._on_change()
