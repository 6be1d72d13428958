"""The hooks of a child process: run once in each, before its first job and when it ends in order."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from deeper_tasks.tasks import WorkerState
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.hooks.hook_names import HookNames
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
from deeper_tasks.worker.process.forks import leave_if_copy

_logger = logging.getLogger("deeper_tasks")

R = TypeVar("R")


class ChildHooks:
    """
    Runs hooks in the main thread, like jobs, and async hooks on an event loop that the jobs then share.

    Without hooks each async job has its own loop.
    """

    def __init__(self, names: HookNames | None) -> None:
        self.state = WorkerState()
        self.base = BaseContext()
        self._names = names
        self._hooks = Hooks()
        self._started = 0
        self._runner: asyncio.Runner | None = None
        self._stopping: Hook | None = None

    def start(self, tell: Callable[[str], object]) -> None:
        """
        Find the hooks and run the start hooks; `tell` is called before each with its name in words.

        Raises:
            HookError: a hook is not found, or failed.
        """
        if self._names is None:
            return
        self._runner = asyncio.Runner()
        self._hooks = self._names.find()
        for hook in self._hooks.starts:
            tell(f"its start hook {describe(hook)}")
            take(self.state, hook, self._call(hook))
            self._started += 1
        self.base.freeze()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that the jobs share; None if each has its own."""
        return None if self._runner is None else self._runner.get_loop()

    @contextmanager
    def jobs_loop(self) -> Iterator[asyncio.AbstractEventLoop]:
        """Give a loop for the coroutine of a job. Tasks that the job leaves running there are cancelled."""
        if self._runner is None:
            with asyncio.Runner() as runner:
                yield runner.get_loop()
            return
        loop = self._runner.get_loop()
        # The tasks of pools and clients go on from job to job.
        kept = asyncio.all_tasks(loop)
        try:
            yield loop
        finally:
            loop.run_until_complete(_cancel(asyncio.all_tasks(loop) - kept))

    def stop(self) -> None:
        """Run the stop hooks that are due, and log those that fail. If they take too long, this process ends."""
        if self._names is None or self._runner is None:
            return
        watchdog = threading.Timer(STOP_SECONDS, self._give_up)
        watchdog.daemon = True
        watchdog.start()
        for hook in self._hooks.due_stops(self._started):
            self._stopping = hook
            _, error = self._call(hook)
            if error is not None:
                log_failed_stop(hook, error)
        with suppress(Exception):
            self._runner.close()
        watchdog.cancel()

    def _give_up(self) -> None:
        try:
            if self._stopping is not None:
                _logger.error("the stop hook %s did not end in time", describe(self._stopping))
        finally:
            os._exit(1)

    def _call(self, hook: Hook) -> Ended:
        assert self._runner is not None
        try:
            value = self.base.context.run(hook, *arguments_of(hook, self.state))
            if inspect.isawaitable(value):
                loop = self._runner.get_loop()
                value = loop.run_until_complete(loop.create_task(_awaited(value), context=self.base.context))
        except BaseException as error:  # noqa: BLE001 - the worker gets whatever a hook raises
            return None, error
        return value, None


def run_to_its_end(coroutine: Coroutine[Any, Any, R], loop: asyncio.AbstractEventLoop) -> R:
    """
    Run a job's coroutine in this context.

    An `asyncio.Runner` would leave a handler for Ctrl-C behind, which keeps the job's task alive, and which raises if
    the repr of an exception there raises. Children do not get Ctrl-C.
    """
    context = contextvars.copy_context()
    return loop.run_until_complete(loop.create_task(_to_its_end(coroutine), context=context))


async def _to_its_end(coroutine: Coroutine[Any, Any, R]) -> R:
    pid = os.getpid()
    try:
        value = await coroutine
    except BaseException as error:
        leave_if_copy(pid, error)
        raise
    leave_if_copy(pid)
    return value


async def _awaited(value: Any) -> object:
    return await value


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
