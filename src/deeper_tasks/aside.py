"""Aside: a thread of its own for one call that blocks, whatever keeps the threads that all share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

R = TypeVar("R")


async def run_aside(function: Callable[[], R]) -> R:
    """
    Call a function in a new thread, and return what it returns or raise what it raised, when the thread has ended.

    The loop's own executor has few threads, and the code of tasks may hold them
    all for ever (`asyncio.to_thread`): what ends a worker must not queue behind it.
    """
    outcome: Future[R] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="deeper-aside", daemon=True)
    thread.start()
    try:
        return await asyncio.wrap_future(outcome)
    finally:
        if outcome.done():
            # It has nothing left to do but to end: who closes a store finds none of its threads afterwards.
            thread.join()
