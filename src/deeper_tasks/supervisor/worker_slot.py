"""A worker slot: one of the supervisor's worker processes, which is replaced when it ends."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from deeper_tasks.domain.durations import readable
from deeper_tasks.health import ProcessHealth, ProcessStatus
from deeper_tasks.supervisor.backoff import Backoff
from deeper_tasks.supervisor.child import Child
from deeper_tasks.supervisor.messages import Loaded
from deeper_tasks.worker.clock import Clock

_logger = logging.getLogger("deeper_tasks")

USAGE = 2
"""The exit code of a worker process whose application or settings cannot be used."""
STUCK = 75
"""The exit code of a worker process that cannot continue, because jobs keep its slots or its event loop."""
_UNSTARTED = frozenset({-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT})
"""The exit codes of a process that a signal stopped during its start, before it had its own handlers."""

StartChild = Callable[[int, Callable[[], None]], Child]
"""Starts the process of a slot, given the slot's index and the function to call after each change of the process."""


class WorkerSlot:
    """
    Keeps one process alive. `index` counts from 1.

    gives_up: `run` ends if the application cannot be used at the first start of the process.
    waits_for_change: A process whose application cannot be used is started again only by `renew`.
    """

    def __init__(
        self, index: int, *, start: StartChild, clock: Clock, gives_up: bool = False, waits_for_change: bool = False
    ) -> None:
        self.index = index
        self.name = f"worker-{index}"
        self.child: Child | None = None
        self.restarts = 0
        self._start = start
        self._clock = clock
        self._gives_up = gives_up
        self._waits_for_change = waits_for_change
        self._backoff = Backoff(random=clock.random)
        self._changed = asyncio.Event()
        self._awake = asyncio.Event()
        self._is_closing = False

    @property
    def health(self) -> ProcessHealth:
        """The health of the process."""
        child = self.child
        report = child.report if child is not None else None
        return ProcessHealth(
            index=self.index,
            name=self.name,
            pid=None if child is None or child.code is not None else child.pid,
            status=ProcessStatus.DOWN if child is None else child.status,
            busy=0 if report is None else report.busy,
            loop_lag_seconds=0.0 if report is None else round(report.loop_lag, 3),
            restarts=self.restarts,
        )

    async def run(self) -> int:
        """
        Keep a process running until `close`.

        Returns:
            0 if the last process stopped in order, 1 if it did not, or the code of the first process if the application
            cannot be used: 2, or 1 if its store cannot serve its tasks.
        """
        while not self._is_closing:
            ended = await self._occupy()
            if self._is_closing:
                return int(ended is not None and self._has_failed_to_stop(ended))
            if ended is not None and self._gives_up and _is_unusable(ended):
                return ended.code or USAGE
            self._gives_up = self._gives_up and (ended is None or ended.loaded is None)
            await self._pause(ended)
            self.restarts += 1
        return 0

    def close(self) -> None:
        """Ask the process to stop in order, and start no other; if called before, ask it to stop at once."""
        self._is_closing = True
        self._awake.set()
        self._stop_child()

    def renew(self) -> None:
        """Ask the process to stop in order, and start another at once after its end."""
        self._backoff.reset()
        self._awake.set()
        child = self.child
        if child is None or not child.is_asked_to_stop:
            self._stop_child()

    async def replace(self) -> None:
        """Replace the process as `renew` does, and return as soon as the next process is ready."""
        before = self.child
        self.renew()
        while self.child is before or self.health.status is not ProcessStatus.READY:
            await self._next_change()

    async def load(self) -> Loaded:
        """Return the process's message about the application, as soon as the process has imported it."""
        while self.child is None or self.child.loaded is None:
            await self._next_change()
        return self.child.loaded

    async def _occupy(self) -> Child | None:
        """Start a process and wait for its end; return None if it could not be started."""
        self._awake.clear()
        self.child = None
        try:
            self.child = self._start(self.index, self._changed.set)
        except OSError as error:
            _logger.warning("worker process %d could not be started, trying again: %s", self.index, error)
        self._changed.set()
        while self.child is not None and self.child.code is None:
            await self._next_change()
        return self.child

    async def _pause(self, ended: Child | None) -> None:
        """Wait until the next process may start after one that ended."""
        if ended is not None and ended.is_asked_to_stop:
            self._has_failed_to_stop(ended)
            return
        if ended is not None and self._waits_for_change and _is_unusable(ended):
            _logger.error("worker process %d waits for a change of the application", self.index)
            await self._clock.sleep(None, until=self._awake)
            return
        pause = self._backoff.next(worked_for=0.0 if ended is None else ended.worked_for)
        if ended is not None and ended.code is not None:
            _logger.warning(
                "worker process %d (pid %d) %s; another starts %s",
                self.index,
                ended.pid,
                _describe(ended.code),
                f"in {readable(pause)}" if pause else "at once",
                extra={"child": self.index, "child_pid": ended.pid, "exit_code": ended.code},
            )
        await self._clock.sleep(pause, until=self._awake)

    def _has_failed_to_stop(self, ended: Child) -> bool:
        """Whether a process that was asked to stop has ended in another way; if so, log it."""
        if ended.was_killed:
            return True
        if ended.code == 0 or not ended.is_asked_to_stop or (ended.report is None and ended.code in _UNSTARTED):
            return False
        _logger.error(
            "worker process %d (pid %d) %s while it was stopping; other workers rescue the jobs that it still ran",
            self.index,
            ended.pid,
            _describe(ended.code or 0),
            extra={"child": self.index, "child_pid": ended.pid, "exit_code": ended.code},
        )
        return True

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _stop_child(self) -> None:
        if self.child is not None and self.child.code is None:
            self.child.stop()


def _is_unusable(child: Child) -> bool:
    return child.is_refused or (child.code == USAGE and child.loaded is None)


def _describe(code: int) -> str:
    if code == STUCK:
        return "ended because it could not continue: jobs kept its slots or its loop, or a part of it kept failing"
    if code >= 0:
        return f"ended with exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"was killed by {known.get(-code, f'signal {-code}')}"
