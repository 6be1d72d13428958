"""Run in a thread: one blocking call in a thread of its own, whatever keeps the shared threads busy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from deeper_tasks import native

R = TypeVar("R")


async def run_in_thread(function: Callable[[], R]) -> R:
    """
    Call a function in a new thread, and return what it returns or raise what it raised, when the thread has ended.

    The loop's own executor has few threads, and the code of tasks may hold them
    all for ever (`asyncio.to_thread`): what ends a worker must not queue behind it.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[R] = loop.create_future()

    def run() -> None:
        try:
            end = partial(_set_result, outcome, function())
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            end = partial(_set_exception, outcome, error)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(end)

    thread = native.make_thread(run, name="deeper-aside")
    thread.start()
    try:
        return await outcome
    finally:
        if outcome.done() and not outcome.cancelled():
            # It has nothing left to do but to end: who closes a store finds none of its threads afterwards.
            thread.join()


def _set_result(outcome: asyncio.Future[R], result: R) -> None:
    if not outcome.done():
        outcome.set_result(result)


def _set_exception(outcome: asyncio.Future[R], error: BaseException) -> None:
    if not outcome.done():
        outcome.set_exception(error)
