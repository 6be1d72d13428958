"""A worker slot: the place of one worker process. When its process ends, another is started in it."""

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
"""That of one which a task keeps from going on, in a thread or on its loop: it ended to be started again."""
_UNSTARTED = frozenset({-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT})
"""The exit codes of a process that was told to stop while it was starting, before it could take the signal in order."""

StartChild = Callable[[int, Callable[[], None]], Child]
"""Starts a process for a slot, by its index, which has the function called when there is news."""


class WorkerSlot:
    """
    Keeps one process alive. `index` counts from 1.

    `gives_up` says whether an application that cannot be used at the first
    start ends `run`. `waits_for_change`: after that, and ever, such a one is
    only started again by `renew`.
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
        """How its process is."""
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
        Keep a process here until `close`.

        Returns 0 if it stopped in order, 1 if it did not, or the code with which it gave up before.
        """
        while not self._is_closing:
            ended = await self._occupy()
            if self._is_closing:
                return int(ended is not None and self._has_failed_to_stop(ended))
            if ended is not None and self._gives_up and _is_unusable(ended):
                return USAGE
            self._gives_up = self._gives_up and (ended is None or ended.loaded is None)
            await self._pause(ended)
            self.restarts += 1
        return 0

    def close(self) -> None:
        """Have the process stop in order, and none follow. Called again, it hurries."""
        self._is_closing = True
        self._awake.set()
        self._stop_child()

    def renew(self) -> None:
        """Have the process stop in order, and another follow at once."""
        self._backoff.reset()
        self._awake.set()
        child = self.child
        if child is None or not child.is_told_to_stop:
            self._stop_child()

    async def replace(self) -> None:
        """Do as `renew`, and return when the next process is ready."""
        before = self.child
        self.renew()
        while self.child is before or self.health.status is not ProcessStatus.READY:
            await self._next_change()

    async def load(self) -> Loaded:
        """Return what a process says of the application as soon as it has imported it."""
        while self.child is None or self.child.loaded is None:
            await self._next_change()
        return self.child.loaded

    async def _occupy(self) -> Child | None:
        """Start a process and wait for its end; None: it could not be started."""
        self._awake.clear()
        self.child = None
        try:
            self.child = self._start(self.index, self._changed.set)
        except OSError as error:
            _logger.warning("worker process %d cannot be started, trying again: %s", self.index, error)
        self._changed.set()
        while self.child is not None and self.child.code is None:
            await self._next_change()
        return self.child

    async def _pause(self, ended: Child | None) -> None:
        """Wait as long as it takes until another process may start after one that ended."""
        if ended is not None and ended.is_told_to_stop:
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
        """Whether a process that was told to stop has ended otherwise than in order; if so it is logged."""
        if ended.was_killed:
            return True
        if ended.code == 0 or not ended.is_told_to_stop or (ended.report is None and ended.code in _UNSTARTED):
            return False
        _logger.error(
            "worker process %d (pid %d) %s while it was stopping; what it still ran is left to be rescued",
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
    return child.code == USAGE and child.loaded is None


def _describe(code: int) -> str:
    if code == STUCK:
        return "ended because it could not go on: jobs kept its slots or its loop, or a part of it kept failing"
    if code >= 0:
        return f"ended with exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"was killed by {known.get(-code, f'signal {-code}')}"
