"""The supervisor: keeps the worker processes alive, restarts them when asked to, and ends them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from deeper_tasks.health import Health
from deeper_tasks.health.health import sum_up
from deeper_tasks.supervisor.changes import changes_in
from deeper_tasks.supervisor.child import Child
from deeper_tasks.supervisor.messages import Loaded
from deeper_tasks.supervisor.settings import SupervisorSettings
from deeper_tasks.supervisor.worker_slot import WorkerSlot
from deeper_tasks.worker.clock import Clock, SystemClock
from deeper_tasks.worker.process.blocked_signals import unblock_signals

_logger = logging.getLogger("deeper_tasks")

_LOOK = 0.5
"""Seconds between two looks at the processes."""

_MOST_NAMED = 3

Greet = Callable[[Loaded, list[int]], None]


class Supervisor:
    """
    Runs worker processes; make it in a running event loop, in a process that has not imported the application.

    SIGTERM and SIGINT stop it in order; a second one stops it at once. SIGHUP restarts the processes one after the
    other, each as soon as the process before it is ready. `greet` is called once, with the first process's message
    about the application and the ids of all processes; `on_look` is called twice a second.
    """

    def __init__(
        self,
        settings: SupervisorSettings,
        *,
        greet: Greet,
        on_look: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._greet = greet
        self._on_look = on_look
        self._clock = clock or SystemClock()
        self._is_stopping = False
        self._looked_at = self._clock.monotonic()
        self._rolling: asyncio.Task[None] | None = None
        self._slots = [self._make_slot(index) for index in range(1, settings.processes + 1)]
        self._has_terminal = _has_terminal()

    def health(self) -> Health:
        """Return the health of all processes. Safe to call from any thread."""
        is_live = self._clock.monotonic() - self._looked_at < self._settings.silence_limit
        return sum_up((slot.health for slot in self._slots), is_live=is_live, is_stopping=self._is_stopping)

    def stop(self) -> None:
        """Ask all processes to stop in order, or, if called before, to stop at once."""
        self._is_stopping = True
        self._end_roll()
        for slot in self._slots:
            slot.close()

    def restart(self) -> None:
        """Restart the processes one after the other, each as soon as the process before it is ready again."""
        if not self._is_stopping:
            self._end_roll()
            self._rolling = asyncio.create_task(self._roll())

    async def run(self) -> int:
        """
        Run until all processes have ended, and return the exit code.

        Returns:
            0 if all processes stopped in order, 1 if one had to be killed or the store cannot serve the application's
            tasks, 2 if the application cannot be used.
        """
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGCHLD: self._reap}
        # Under nohup SIGHUP is ignored, and the supervisor must survive the end of the session.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handlers[signal.SIGHUP] = self._on_hang_up
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        # The worker processes inherit the blocked signals, and could not be stopped.
        unblock_signals(signal.valid_signals())
        helpers = [asyncio.create_task(self._look_on())]
        if self._settings.reload_folders:
            helpers.append(asyncio.create_task(self._reload()))
        try:
            return await self._keep()
        finally:
            self._end_roll()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            for number in handlers:
                loop.remove_signal_handler(number)

    async def _keep(self) -> int:
        first, *others = self._slots
        running = [asyncio.create_task(first.run())]
        loading = asyncio.create_task(first.load())
        # The first process starts alone, so that an error of the application is reported once, not by each process.
        await asyncio.wait({*running, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done() and not self._is_stopping:
            running += [asyncio.create_task(slot.run()) for slot in others]
            await asyncio.sleep(0)
            self._greet(loading.result(), [slot.child.pid for slot in self._slots if slot.child is not None])
        loading.cancel()
        return max(await asyncio.gather(*running))

    async def _look_on(self) -> None:
        is_failing = False
        while True:
            try:
                self._look()
                is_failing = False
            except Exception:
                # The loop must go on: only its looks find a process that hangs.
                if not is_failing:
                    _logger.exception("supervisor failed to check its worker processes, trying again")
                is_failing = True
            await self._clock.sleep(_LOOK, until=asyncio.Event())

    def _look(self) -> None:
        self._reap()
        for child in self._children():
            child.look()
        self._looked_at = self._clock.monotonic()
        self._on_look()

    async def _roll(self) -> None:
        _logger.info("worker processes restart, one after the other")
        for slot in self._slots:
            await slot.replace()
        _logger.info("all worker processes have restarted")

    async def _reload(self) -> None:
        try:
            async for changed in changes_in(self._settings.reload_folders):
                names = ", ".join(map(str, changed[:_MOST_NAMED]))
                _logger.info("files changed, worker restarts: %s%s", names, " …" if len(changed) > _MOST_NAMED else "")
                for slot in self._slots:
                    if not self._is_stopping:
                        slot.renew()
        except Exception:
            _logger.exception("file watch failed, changes no longer restart the worker")

    def _end_roll(self) -> None:
        if self._rolling is not None:
            self._rolling.cancel()

    def _on_hang_up(self) -> None:
        # A closed terminal sends SIGHUP too, and no user could stop this process afterwards.
        if self._has_terminal and not _has_terminal():
            self.stop()
        else:
            self.restart()

    def _reap(self) -> None:
        for child in self._children():
            child.reap()

    def _children(self) -> list[Child]:
        return [slot.child for slot in self._slots if slot.child is not None]

    def _make_slot(self, index: int) -> WorkerSlot:
        is_reloading = bool(self._settings.reload_folders)
        return WorkerSlot(
            index,
            start=self._start,
            clock=self._clock,
            gives_up=index == 1 and not is_reloading,
            waits_for_change=is_reloading,
        )

    def _start(self, index: int, on_change: Callable[[], None]) -> Child:
        return Child(
            self._settings.command,
            arguments=("--child", str(index), str(self._settings.processes)),
            silence_limit=self._settings.silence_limit,
            now=self._clock.monotonic,
            on_change=on_change,
        )


def _has_terminal() -> bool:
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
        return True
    return False
