"""The thread executor: runs a plain `def` in a thread, which can be told to stop but not made to."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.tasks import enter_job
from deeper_tasks.worker.attempt import Attempt
from deeper_tasks.worker.call import Call


class ThreadExecutor:
    """
    Holds as many threads as the worker has slots.

    An interruption sets `current_job().cancelled`, nothing more: a thread that does not look keeps its slot.
    """

    def __init__(self, *, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="deeper-task")

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Run the handler in a thread and wait for its end."""
        args, kwargs = call.arguments()
        context = contextvars.copy_context()
        assert attempt.context is not None
        context.run(enter_job, attempt.context)

        def run_here() -> Settlement:
            started = time.perf_counter()
            try:
                value = context.run(call.task.function, *args, **kwargs)
            except BaseException as raised:  # noqa: BLE001 - what a handler raises ends its attempt only
                return call.raised(raised, timedelta(seconds=time.perf_counter() - started))
            if inspect.iscoroutine(value):
                value.close()
                error = TypeError("a def returned a coroutine, which nothing runs: make it an async def")
                return call.raised(error, timedelta(seconds=time.perf_counter() - started))
            return call.returned(value, timedelta(seconds=time.perf_counter() - started))

        return await asyncio.get_running_loop().run_in_executor(self._pool, run_here)

    async def close(self) -> None:
        """Let go of the threads; one that still runs its handler is left to it."""
        self._pool.shutdown(wait=False, cancel_futures=True)
