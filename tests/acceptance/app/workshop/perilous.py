"""An application with tasks that kill their process, and with neighbours that stand in their way once."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeper_tasks import BackgroundTaskManager, WorkerState, current_job
from workshop import journal

_LOOK = 0.005
_LONG = 600

manager = BackgroundTaskManager.from_settings(include=(), default_retry_delay_seconds=0)


@manager.on_worker_start
async def open_shop(state: WorkerState) -> None:
    """Note which process the hook ran in."""
    state.opened_by = os.getpid()


@manager.middleware
async def around(job: Any, proceed: Any) -> Any:
    """Write down in which process the middleware runs, and the hooks ran."""
    journal.write("middleware", job.state.opened_by)
    return await proceed()


def _die(how: str) -> None:
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "os._exit":
            os._exit(3)
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)


@manager.task(max_attempts=3)
async def die_on_loop(how: str, go: str) -> None:
    """Kill the process from the loop, once a file is there."""
    journal.write("start", how)
    while not Path(go).exists():  # noqa: ASYNC110, ASYNC240 - the test's signal comes from another process
        await asyncio.sleep(_LOOK)
    _die(how)


@manager.task(max_attempts=3, transactional=True)
async def die_in_transaction(how: str, go: str) -> None:
    """Kill the process from inside the job's transaction, once a file is there."""
    await die_on_loop(how, go)


@manager.task(max_attempts=3)
def die_in_thread(how: str, go: str) -> None:
    """Kill the process from a thread, once a file is there."""
    journal.write("start", how)
    while not Path(go).exists():
        time.sleep(_LOOK)
    _die(how)


@manager.task
async def linger_on_loop() -> int:
    """At the first attempt stay for ever; then return the process."""
    journal.write("start")
    if current_job().attempt == 1:
        await asyncio.sleep(_LONG)
    return os.getpid()


@manager.task
def linger_in_thread() -> int:
    """At the first attempt stay for ever; then return the process."""
    return _linger()


@manager.task(executor="process")
def linger_in_process() -> int:
    """At the first attempt stay for ever; then return the process."""
    return _linger()


def _linger() -> int:
    journal.write("start")
    if current_job().attempt == 1:
        time.sleep(_LONG)
    return os.getpid()


@manager.task
async def stay(path: str) -> None:
    """Stay until a file is there."""
    journal.write("start")
    while not Path(path).exists():  # noqa: ASYNC110, ASYNC240 - the test's signal comes from another process
        await asyncio.sleep(_LOOK)
    journal.write("end")


LINGERERS: tuple[Callable[..., Any], ...] = (linger_on_loop, linger_in_thread, linger_in_process)
