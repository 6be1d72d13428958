"""The coroutine executor: runs `async def` on the worker's loop; an interruption cancels it."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.tasks import enter_job
from deeper_tasks.worker.attempt import Attempt
from deeper_tasks.worker.call import Call


class CoroutineExecutor:
    """Runs in the asyncio task, and so in the context, that the attempt has for itself."""

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Await the handler."""
        args, kwargs = call.arguments()
        this = attempt.task
        assert this is not None
        assert attempt.context is not None
        enter_job(attempt.context)
        attempt.interrupt = lambda: _cancel(this)
        started = time.perf_counter()
        try:
            value = await call.task.function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - what a handler raises, SystemExit too, ends its attempt only
            return call.raised(error, timedelta(seconds=time.perf_counter() - started))
        else:
            return call.returned(value, timedelta(seconds=time.perf_counter() - started))
        finally:
            attempt.interrupt = None
            while this.cancelling():
                this.uncancel()

    async def close(self) -> None:
        """Nothing is held."""


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
