"""The last resort: decides when a process ends because its event loop is blocked and nothing else can end it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.clock import Clock
from deeper_tasks.worker.hooks.hooks import STOP_SECONDS
from deeper_tasks.worker.settings import WorkerSettings

EXIT_CODE = os.EX_TEMPFAIL
"""The exit code of a process whose loop was blocked too long. A supervisor starts it again."""
STOP_FAILED = 1
"""The exit code of a process that should have stopped, and whose blocked loop kept it from that."""

LAST_WORDS = 5.0
"""Seconds that interrupted code gets to end, and the last settlements to be written."""

Verdict = tuple[int, str]
"""The exit code, and the reason in words."""


class LastResort:
    """
    Decides for how long a loop may be blocked. Safe to use from any thread.

    `loop_stall_limit` holds for every process. Two more limits hold for a process that the worker has to itself. One is
    `stuck_after`, if a job that runs on the loop is also that long past its timeout. The other one is five seconds, if
    the worker should have stopped: from five seconds after its grace period, at once after a second request to stop,
    and from ten seconds after the stop hooks began.
    """

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        running: Callable[[], Iterable[Attempt]],
        clock: Clock,
        owns_process: bool,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        self.end_process = end_process
        """Ends this process with an exit code."""
        self._limit = None if settings.loop_stall_limit is None else settings.loop_stall_limit.total_seconds()
        self._stuck_after = settings.stuck_after.total_seconds()
        self._grace = settings.shutdown_grace.total_seconds()
        self._running = running
        self._clock = clock
        self._owns_process = owns_process
        self._stops = 0
        self._stop_by: float | None = None

    @property
    def is_needed(self) -> bool:
        """Whether a blocked loop is ever a reason to end the process."""
        return self._owns_process or self._limit is not None

    def note_stop(self, times: int) -> None:
        """Note that a stop of the worker was requested, for so many times by now."""
        if times > self._stops:
            self._stops = times
            now = self._clock.monotonic()
            self._stop_by = now + self._grace + LAST_WORDS if times == 1 else now

    def note_hooks(self) -> None:
        """Note that the stop hooks begin."""
        self._stop_by = self._clock.monotonic() + STOP_SECONDS

    def verdict(self, blocked: float) -> Verdict | None:
        """Return how a process with a loop blocked for so many seconds must end; None if it goes on."""
        if self._limit is not None and blocked >= self._limit:
            return EXIT_CODE, "longer than loop_stall_limit_seconds allows"
        if not self._owns_process:
            return None
        now = self._clock.monotonic()
        if self._stop_by is not None and now >= self._stop_by and blocked >= LAST_WORDS:
            return STOP_FAILED, "and keeps the worker from stopping, although a stop was requested"
        if blocked >= self._stuck_after and any(self._is_stuck(attempt, now) for attempt in self._running()):
            return EXIT_CODE, "and a job there has run on for stuck_seconds after its timeout"
        return None

    def _is_stuck(self, attempt: Attempt, now: float) -> bool:
        overdue_since = attempt.deadline if attempt.overdue_since is None else attempt.overdue_since
        return overdue_since is not None and now - overdue_since >= self._stuck_after
