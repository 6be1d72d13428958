"""Patience: how an enqueue is tried again while the store is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from deeper_tasks.backends.availability import Availability
from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import BackendUnavailableError, copy_of
from deeper_tasks.worker.clock import SystemClock

T = TypeVar("T")

_clock = SystemClock()


async def insist(
    call: Callable[[], Awaitable[T]],
    *,
    seconds: float,
    availability: Availability,
    is_wanted: Callable[[], bool] = lambda: True,
) -> T:
    """
    Return the answer of `call`, which is tried again for so many seconds while the store is away, and once at the end.

    The tries wait together with all other parts of the process. A try that is under way is not interrupted. After
    `is_wanted` has become False, the next pause is the last.

    Raises:
        BackendUnavailableError: the error of the last try, with the time for which the call was tried.
    """
    began, part, awake = time.monotonic(), object(), asyncio.Event()
    try:
        while True:
            try:
                answer = await call()
            except BackendUnavailableError as error:
                tried = time.monotonic() - began
                if tried >= seconds or not is_wanted():
                    raise _given_up(error, tried) from error.__cause__
                availability.mark_failing(error, by=part)
                awake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds - tried):
                        await availability.pause(_clock.sleep, until=awake)
                if not is_wanted():
                    raise _given_up(error, time.monotonic() - began) from error.__cause__
            else:
                availability.mark_working(by=part)
                return answer
    finally:
        availability.mark_idle(by=part)


def _given_up(error: BackendUnavailableError, tried: float) -> BackendUnavailableError:
    # A copy: a store may raise the same error for several callers that wait.
    final = copy_of(error)
    final.args = (f"{error}; it was tried again for {readable(tried)}",)
    return final
