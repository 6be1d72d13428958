"""The coroutine executor: runs `async def` on the worker's loop; an interruption cancels it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from datetime import timedelta

from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.tasks import enter_job, leave_job
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.attempts.stalls import Stalls
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.call import Call
from deeper_tasks.worker.execution.unfinished_code import abandon
from deeper_tasks.worker.process.forks import leave_if_copy, this_process, watch_forks


class CoroutineExecutor:
    """Runs a handler in the asyncio task of its attempt, so that the handler has a context of its own."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic, stalls: Stalls | None = None) -> None:
        self._now = now
        self._pid = os.getpid()
        watch_forks()
        self._stalls = stalls

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Await the handler."""
        args, kwargs = call.arguments()
        context, now = attempt.context, self._now
        # Middleware may await the handler in another task.
        this = attempt.task if attempt.onlooker is context else asyncio.current_task()
        assert this is not None
        assert context is not None
        token = enter_job(context)
        attempt.interrupt = this.cancel
        attempt.now, attempt.stalls, attempt.started = now, self._stalls, now()
        try:
            value = await call.task.function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - an exception of a handler, SystemExit too, ends its attempt only
            leave_if_copy(self._pid, error)
            ran_for = _ran_for(attempt, self._now())
            return verdict.raised(call, error, ran_for, attempt)
        else:
            ended = now()
            if this_process.is_copy:
                leave_if_copy(self._pid)
            # By position, because by name it takes twice as long.
            ran_for = timedelta(0, ended - attempt.started)
            if attempt.is_undisturbed(ran_for):
                return call.returned(value, ran_for)
            ran_for = _ran_for(attempt, ended)
            if attempt.forced:
                # The handler caught the cancellation.
                attempt.mark_seen(attempt.forced)
            return verdict.returned(call, value, ran_for, attempt)
        finally:
            attempt.interrupt = None
            leave_job(token)
            while this.cancelling():
                this.uncancel()

    async def close(self) -> None:
        """Nothing is to be closed."""


class Awaiting:
    """Awaits on the event loop an awaitable that a handler in a thread returned, until the call ends."""

    def __init__(self, *, now: Callable[[], float], stalls: Stalls | None) -> None:
        self._now = now
        self._stalls = stalls

    async def run(
        self, attempt: Attempt, call: Call, value: Awaitable[object], *, ran_for: timedelta, context: Context
    ) -> Settlement:
        """Await `value` in the context that the handler ran in; `ran_for` is the time that the thread took."""
        if attempt.forced:
            abandon(value)
            return verdict.raised(call, asyncio.CancelledError(), ran_for, attempt)
        attempt.stalls, attempt.on_loop_since = self._stalls, self._now()
        # The time in the loop's queue does not count as the handler's time.
        attempt.started = attempt.on_loop_since - ran_for.total_seconds()
        # The task factory of the loop is the application's, so it does not make this task.
        awaiting = asyncio.Task(self._end(attempt, call, value), loop=asyncio.get_running_loop(), context=context)
        attempt.interrupt = awaiting.cancel
        try:
            return await awaiting
        except asyncio.CancelledError as error:
            # If `_end` has not begun, nothing has awaited the value.
            abandon(value)
            if not attempt.forced:
                raise
            return verdict.raised(call, error, ran_for, attempt)
        finally:
            attempt.interrupt = None

    async def _end(self, attempt: Attempt, call: Call, value: Awaitable[object]) -> Settlement:
        pid = os.getpid()
        try:
            result = await value
        except BaseException as error:  # noqa: BLE001 - an exception of a handler ends its attempt only
            leave_if_copy(pid, error)
            return verdict.raised(call, error, _ran_for(attempt, self._now()), attempt)
        leave_if_copy(pid)
        if attempt.forced:
            attempt.mark_seen(attempt.forced)
        return verdict.returned(call, result, _ran_for(attempt, self._now()), attempt)


def _ran_for(attempt: Attempt, now: float) -> timedelta:
    ran_for = timedelta(seconds=now - attempt.started)
    if attempt.is_late(ran_for):
        # The handler is not late if other code held up the loop.
        attempt.held = timedelta(seconds=attempt.held_by_others(now))
    return ran_for
