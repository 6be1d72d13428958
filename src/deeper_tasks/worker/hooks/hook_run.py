"""The run of the hooks in a worker's process, on its event loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import HookError
from deeper_tasks.run_in_thread import run_in_thread
from deeper_tasks.tasks import WorkerState
from deeper_tasks.worker.clock import Clock
from deeper_tasks.worker.hooks.hooks import (
    STOP_SECONDS,
    Ended,
    Hook,
    Hooks,
    arguments_of,
    describe,
    log_failed_stop,
    take,
)

_logger = logging.getLogger("deeper_tasks")

_PATIENCE = 10.0
"""Seconds until the log says which start hook the worker waits for; it says so again after twice the time."""


class HookRun:
    """Runs the hooks once in a worker's process, and keeps the state that they share."""

    def __init__(self, hooks: Hooks, *, clock: Clock, state: WorkerState | None = None) -> None:
        self.state = WorkerState() if state is None else state
        self._hooks = hooks.copy()
        self._clock = clock
        self._started: int | None = None
        self.calling = ""
        """The hook that runs now, in words; empty if none does. Safe to read from any thread."""

    async def start(
        self,
        *,
        stopping: asyncio.Event,
        context: contextvars.Context,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        """
        Run the start hooks in turn, until one fails or a stop of the worker is requested.

        `tell` is called before each hook with its name in words; without `tell`, the log names a hook that takes long.

        Context variables that the hooks set are set in `context`. A plain `def` runs in a thread of its own.

        Raises:
            HookError: a start hook failed; the hooks after it were not called.
        """
        self._started = 0
        for hook in self._hooks.starts:
            self.calling = f"the start hook {describe(hook)}"
            calling = asyncio.Task(self._start(hook), context=context)
            telling = asyncio.create_task(stopping.wait())
            try:
                if tell is not None:
                    tell(f"its start hook {describe(hook)}")
                await _wait_for_first({calling, telling}, hook=None if tell else hook)
                if not calling.done():
                    _logger.warning("the worker stops before the start hook %s has ended", describe(hook))
                    return
            finally:
                self.calling = ""
                telling.cancel()
                if not calling.done():
                    calling.cancel()
                    # `_start` has logged a failure already.
                    calling.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                    await asyncio.wait({calling}, timeout=STOP_SECONDS)
            calling.result()
            if stopping.is_set():
                return

    async def _start(self, hook: Hook) -> None:
        try:
            take(self.state, hook, await _outcome(hook, self.state))
        except HookError:
            _logger.exception("the worker does not start")
            raise
        self._started = (self._started or 0) + 1

    async def stop(self) -> None:
        """
        Run the stop hooks that are due, in turn, and log those that fail or take too long. Without `start` none is due.

        Each hook gets an equal share of the time that is left, so a hook that hangs does not use up the others' time.
        """
        if self._started is None:
            return
        deadline = self._clock.monotonic() + STOP_SECONDS
        due = self._hooks.due_stops(self._started)
        for number, hook in enumerate(due):
            share = max(0.0, deadline - self._clock.monotonic()) / (len(due) - number)
            self.calling = f"the stop hook {describe(hook)}"
            calling = asyncio.create_task(_outcome(hook, self.state))
            try:
                await asyncio.wait({calling}, timeout=share)
            finally:
                self.calling = ""
                is_over = calling.done()
                calling.cancel()
            if not is_over:
                _logger.error("the stop hook %s did not end within %s and is left", describe(hook), readable(share))
            elif (error := calling.result()[1]) is not None:
                log_failed_stop(hook, error)
        self._started = None


async def _wait_for_first(waited: set[asyncio.Task[Any]], *, hook: Hook | None) -> None:
    patience, waits = None if hook is None else _PATIENCE, 0.0
    while not (await asyncio.wait(waited, timeout=patience, return_when=asyncio.FIRST_COMPLETED))[0]:
        if hook is not None and patience is not None:
            waits, patience = waits + patience, patience * 2
            _logger.warning("the worker has waited %s for its start hook %s", readable(waits), describe(hook))


async def _outcome(hook: Hook, state: WorkerState) -> Ended:
    """Call a hook to its end. Its error is returned, because a raised SystemExit would end the event loop."""
    this = asyncio.current_task()
    assert this is not None
    try:
        arguments = arguments_of(hook, state)
        if inspect.iscoroutinefunction(hook):
            return await hook(*arguments), None
        # Two threads cannot be in one context. The hook gets a copy, and the variables that it sets are taken over.
        copied = contextvars.copy_context()
        value = await run_in_thread(partial(copied.run, hook, *arguments))
        for variable in copied:
            variable.set(copied[variable])
        return (await value if inspect.isawaitable(value) else value), None
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and this.cancelling():
            raise
        return None, error
