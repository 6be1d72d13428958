"""The thread executor: runs a plain `def` in a thread, to which a stop can only be announced."""

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
    Holds as many threads as the worker has slots. A coroutine from a wrapper of an `async def` is awaited on the loop.

    An interruption only sets the stops that `current_job()` shows. A thread that does not look at them keeps
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
            except BaseException as error:  # noqa: BLE001 - an exception of a handler ends its attempt only
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
            # The middleware cancels, as at its own timeout. The thread cannot be stopped, so its end is awaited.
            await self._until_ended(running)
            raise
        if isinstance(ended, Settlement):
            return ended
        value, ran_for = ended
        return await self._awaiting.run(attempt, call, value, ran_for=ran_for, context=context)

    async def _until_ended(self, running: concurrent.futures.Future[Any]) -> None:
        """Wait until the thread has ended its call, or until `close`, however often the waiting task is cancelled."""
        while not (running.done() or self._is_closed):
            with suppress(BaseException):
                # Its result is not needed. A cancellation that `wrap_future` passes on comes too late.
                await asyncio.wrap_future(running)

    async def close(self) -> None:
        """Release the threads; a thread that still runs a handler goes on."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
