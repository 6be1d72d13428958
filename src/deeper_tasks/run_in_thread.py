"""Run in a thread: one blocking call in a new thread, independent of the event loop's shared threads."""

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
    Call a function in a new thread, and return its result or raise its exception when the thread has ended.

    Code of tasks may occupy all threads of the loop's executor forever (`asyncio.to_thread`), and calls that end a
    worker must not wait for them.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[R] = loop.create_future()

    def run() -> None:
        try:
            end = partial(_set_result, outcome, function())
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller, who awaits the outcome
            end = partial(_set_exception, outcome, error)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(end)

    thread = native.make_thread(run, name="deeper-call")
    thread.start()
    try:
        return await outcome
    finally:
        if outcome.done() and not outcome.cancelled():
            # The thread is about to end: wait, so that no thread is left after the close of a store.
            thread.join()


def _set_result(outcome: asyncio.Future[R], result: R) -> None:
    if not outcome.done():
        outcome.set_result(result)


def _set_exception(outcome: asyncio.Future[R], error: BaseException) -> None:
    if not outcome.done():
        outcome.set_exception(error)
