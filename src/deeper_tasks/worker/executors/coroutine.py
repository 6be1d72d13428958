"""The coroutine executor: runs `async def` on the worker's loop; an interruption cancels it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import timedelta

from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.tasks import enter_job, leave_job
from deeper_tasks.worker import verdict
from deeper_tasks.worker.attempt import Attempt
from deeper_tasks.worker.call import Call
from deeper_tasks.worker.forks import leave_if_copy


class CoroutineExecutor:
    """Runs in the asyncio task, and so in the context, that the attempt has for itself."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._pid = os.getpid()

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Await the handler."""
        args, kwargs = call.arguments()
        this = attempt.task
        assert this is not None
        assert attempt.context is not None
        token = enter_job(attempt.context)
        attempt.interrupt = lambda: _cancel(this)
        started = self._now()
        try:
            value = await call.task.function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - what a handler raises, SystemExit too, ends its attempt only
            leave_if_copy(self._pid, error)
            ran_for = timedelta(seconds=self._now() - started)
            return verdict.raised(call, error, ran_for, attempt)
        else:
            leave_if_copy(self._pid)
            ran_for = timedelta(seconds=self._now() - started)
            if attempt.forced:
                # It caught the cancellation.
                attempt.mark_seen(attempt.forced)
            return verdict.returned(call, value, ran_for, attempt)
        finally:
            attempt.interrupt = None
            leave_job(token)
            while this.cancelling():
                this.uncancel()

    async def close(self) -> None:
        """Nothing is held."""


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
