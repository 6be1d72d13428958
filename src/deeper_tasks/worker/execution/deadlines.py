"""Deadlines: stop the attempts that run longer than their timeouts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from datetime import timedelta

from deeper_tasks.domain.stop import Stop
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.clock import Clock

_PATIENCE = 10.0
"""Seconds between two interruptions of code that does not stop."""
_LAG, _TURNS = 0.05, 5
"""Seconds after which the timer itself is late, and the number of turns of the loop that it then waits."""


class Deadlines:
    """
    Watches the running attempts through one timer, armed for the earliest deadline.

    To look through all running attempts costs less than a timer for each: they are as
    few as the slots, and nearly all end long before their deadline. An attempt that does not stop is
    interrupted again and again, and `on_ignored` is called each time, and once `stuck_after` its deadline.
    """

    def __init__(
        self,
        *,
        running: Callable[[], Iterable[Attempt]],
        clock: Clock,
        on_ignored: Callable[[Attempt], None],
        stuck_after: timedelta = timedelta.max,
    ) -> None:
        self._running = running
        self._clock = clock
        self._on_ignored = on_ignored
        self._stuck_after = stuck_after.total_seconds()
        self._armed_for = math.inf
        self._awake = asyncio.Event()

    def watch(self, attempt: Attempt, timeout: timedelta | None) -> None:
        """Give an attempt that starts now its deadline."""
        if timeout is not None:
            attempt.deadline = self._clock.monotonic() + timeout.total_seconds()
            if attempt.deadline < self._armed_for:
                self._armed_for = attempt.deadline
                self._awake.set()

    def hold(self, attempt: Attempt) -> None:
        """Suspend the deadline of an attempt that waits for its process, until `watch` gives it a new one."""
        attempt.deadline = None

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            if self._armed_for < self._clock.monotonic() - _LAG:
                # The loop was blocked. A handler that has ended, and waits for its turn of the loop, returns first.
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
            pause = self.turn()
            self._awake.clear()
            await self._clock.sleep(pause, until=self._awake)

    def turn(self) -> float | None:
        """Stop the overdue attempts; return the seconds to the next look, or None if no attempt has a deadline."""
        now = self._clock.monotonic()
        if self._armed_for <= now:
            self._ring(now)
        # The alarm of an ended attempt stays: one look without effect costs less than to move the alarm each time.
        return None if self._armed_for == math.inf else self._armed_for - now

    def _ring(self, now: float) -> None:
        for attempt in [attempt for attempt in self._running() if _is_due(attempt, now)]:
            if not _is_put_off(attempt, now):
                self._stop(attempt, now)
        self._armed_for = min((attempt.deadline or math.inf for attempt in self._running()), default=math.inf)

    def _stop(self, attempt: Attempt, now: float) -> None:
        if attempt.overdue_since is None:
            # The deadline and not `now`, because a blocked loop may have delayed the timer.
            attempt.overdue_since = now if attempt.deadline is None else attempt.deadline
        else:
            self._on_ignored(attempt)
        attempt.tell_to_stop(Stop.TIMEOUT)
        stuck_at = attempt.overdue_since + self._stuck_after
        attempt.deadline = min(now + _PATIENCE, stuck_at) if now < stuck_at else now + _PATIENCE


def _is_due(attempt: Attempt, now: float) -> bool:
    return attempt.deadline is not None and attempt.deadline <= now


def _is_put_off(attempt: Attempt, now: float) -> bool:
    """Put a first deadline off by the time in which other jobs blocked the loop; return whether it is still to come."""
    if attempt.overdue_since is None and attempt.deadline is not None:
        held = attempt.held_by_others(now)
        attempt.deadline += held - attempt.excused
        attempt.excused = held
    return not _is_due(attempt, now)
