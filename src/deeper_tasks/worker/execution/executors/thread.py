"""The thread executor: runs a plain `def` in a thread, which can be told to stop but not made to."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.tasks import enter_job
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.attempts.stalls import Stalls
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.call import Call
from deeper_tasks.worker.execution.executors.coroutine import Awaiting
from deeper_tasks.worker.execution.unfinished_code import is_awaitable
from deeper_tasks.worker.process.forks import leave_if_copy, watch_forks


class ThreadExecutor:
    """
    Holds as many threads as the worker has slots. What a wrapper of an `async def` gives is awaited on the loop.

    An interruption turns what `current_job()` tells of stops true, nothing more: a thread that does not look keeps
    its slot.
    """

    def __init__(
        self, *, threads: int, now: Callable[[], float] = time.monotonic, stalls: Stalls | None = None
    ) -> None:
        self._now = now
        self._awaiting = Awaiting(now=now, stalls=stalls)
        self._pid = os.getpid()
        watch_forks()
        self._is_closed = False
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="deeper-task")

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Run the handler in a thread and wait for its end."""
        args, kwargs = call.arguments()
        context = contextvars.copy_context()
        assert attempt.context is not None
        context.run(enter_job, attempt.context)

        def run_here() -> Settlement | tuple[Awaitable[object], timedelta]:
            attempt.thread = threading.get_ident()
            try:
                return call_handler()
            finally:
                attempt.thread = None

        def call_handler() -> Settlement | tuple[Awaitable[object], timedelta]:
            attempt.now, attempt.started = self._now, self._now()
            try:
                value: Any = context.run(call.task.function, *args, **kwargs)
                leave_if_copy(self._pid)
            except BaseException as error:  # noqa: BLE001 - what a handler raises ends its attempt only
                leave_if_copy(self._pid, error)
                ran_for = timedelta(seconds=self._now() - attempt.started)
                return verdict.raised(call, error, ran_for, attempt)
            ran_for = timedelta(seconds=self._now() - attempt.started)
            if call.task.leads_to_coroutine and is_awaitable(value):
                return value, ran_for
            return verdict.returned(call, value, ran_for, attempt)

        running = self._pool.submit(run_here)
        try:
            ended = await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            # By the middleware, at a timeout of its own: its thread cannot be stopped, and must not go on unnoticed.
            await self._until_ended(running)
            raise
        if isinstance(ended, Settlement):
            return ended
        value, ran_for = ended
        return await self._awaiting.run(attempt, call, value, ran_for=ran_for, context=context)

    async def _until_ended(self, running: concurrent.futures.Future[Any]) -> None:
        """Wait for the end of what runs in a thread, however often the waiting task is cancelled, until `close`."""
        while not (running.done() or self._is_closed):
            with suppress(BaseException):
                # Its end is no news any more. That `wrap_future` passes a cancellation on comes too late.
                await asyncio.wrap_future(running)

    async def close(self) -> None:
        """Let go of the threads; one that still runs its handler is left to it."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
