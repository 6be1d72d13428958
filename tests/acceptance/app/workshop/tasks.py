"""The tasks: small work of every kind, which writes its starts and ends to the journal."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from deeper_tasks import Done, current_job, task
from workshop import journal

_LOOK = 0.005
_LONG = 600


class StoppedError(Exception):
    """A thread saw that its job is to stop."""


@task
async def nap(seconds: float = 0.0) -> None:
    """Sleep on the loop."""
    journal.write("start")
    await asyncio.sleep(seconds)
    journal.write("end")


@task
def nap_in_thread(seconds: float = 0.0) -> None:
    """Sleep in a thread."""
    journal.write("start")
    time.sleep(seconds)
    journal.write("end")


@task(executor="process")
def nap_in_process(seconds: float = 0.0) -> None:
    """Sleep in a process."""
    journal.write("start")
    time.sleep(seconds)
    journal.write("end")


@task
async def wait_for(path: str) -> None:
    """Wait on the loop until a file is there."""
    journal.write("start")
    while not Path(path).exists():  # noqa: ASYNC110, ASYNC240 - the test's signal comes from another process
        await asyncio.sleep(_LOOK)
    journal.write("end")


@task
def wait_in_thread() -> None:
    """Wait in a thread until told to stop."""
    journal.write("start")
    job = current_job()
    while not job.should_stop:
        time.sleep(_LOOK)
    journal.write("cancelled" if job.cancelled else "stopped")
    raise StoppedError


@task(executor="process")
def wait_in_process() -> None:
    """Wait in a process for a process of its own."""
    child = subprocess.Popen(["sleep", str(_LONG)])
    journal.write("start", child.pid)
    child.wait()


async def _finish_early_on_loop(how: str) -> object:
    while not current_job().stopping:  # noqa: ASYNC110 - the stop comes from the worker
        await asyncio.sleep(_LOOK)
    return _finish_early(how)


def _finish_early_elsewhere(how: str) -> object:
    while not current_job().should_stop:
        time.sleep(_LOOK)
    return _finish_early(how)


def _finish_early(how: str) -> object:
    if how == "check":
        current_job().check()
    return Done("all") if how == "done" else "a part"


@task
async def finish_early_on_loop(how: str) -> object:
    """Return on the loop as soon as the worker stops."""
    journal.write("start")
    return await _finish_early_on_loop(how)


@task
def finish_early_in_thread(how: str) -> object:
    """Return in a thread as soon as the worker stops."""
    journal.write("start")
    return _finish_early_elsewhere(how)


@task(executor="process")
def finish_early_in_process(how: str) -> object:
    """Return in a process as soon as the worker stops."""
    journal.write("start")
    return _finish_early_elsewhere(how)


@task(timeout_seconds=0.1, max_attempts=1)
async def block_too_long() -> str:
    """Block the loop beyond the timeout."""
    time.sleep(0.2)  # noqa: ASYNC251 - it is meant to block
    return "late"


@task(timeout_seconds=0.1, max_attempts=1)
def sleep_too_long() -> str:
    """Sleep in a thread beyond the timeout."""
    time.sleep(0.2)
    return "late"


@task(timeout_seconds=0.1, late_result="accept")
def sleep_too_long_and_be_accepted() -> str:
    """Sleep in a thread beyond the timeout, which does not matter."""
    time.sleep(0.2)
    return "late" if current_job().timed_out else "never told"


@task
async def leave_a_fork() -> None:
    """Fork the worker, as multiprocessing does; what was forked outlives it, with all that it had open."""
    pid = os.fork()
    if pid == 0:
        while True:
            time.sleep(_LONG)  # noqa: ASYNC251 - there is no loop in the fork
    journal.write("fork", pid)


@task
async def block_once(path: str) -> str:
    """At the first attempt block the worker's loop until a file is there; returns which attempt this was."""
    journal.write("start")
    if current_job().attempt == 1:
        while not Path(path).exists():  # noqa: ASYNC240 - it is meant to block
            time.sleep(_LOOK)  # noqa: ASYNC251 - the same
    journal.write("end")
    return f"attempt {current_job().attempt}"


def _fall(how: str) -> None:
    journal.write("start", how)
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "os._exit":
            os._exit(3)
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sys.exit":
            sys.exit(3)
        case "depth":
            _fall_deeper(0)
        case "memory":
            bytes(2**62)


def _fall_deeper(depth: int) -> None:
    _fall_deeper(depth + 1)


@task
async def fall_on_loop(how: str) -> None:
    """End the attempt on the loop as no handler should."""
    _fall(how)


@task
def fall_in_thread(how: str) -> None:
    """End the attempt in a thread as no handler should."""
    _fall(how)


@task(executor="process")
def fall_in_process(how: str) -> None:
    """End the attempt in a process as no handler should."""
    _fall(how)


@task(retry_delay_seconds=0)
async def charge(kills_worker_at: int, fails_at: int) -> None:
    """Tell the keys that a request to the outside would carry, and then break off at these attempts."""
    job = current_job()
    journal.write("start", f"{job.idempotency_key} {job.idempotency_key_for('charge')}")
    if job.attempt == kills_worker_at:
        os.kill(os.getpid(), signal.SIGKILL)
    if job.attempt == fails_at:
        raise StoppedError
    journal.write("end")


@task
async def kill_worker() -> None:
    """End the worker's process at once, as the kernel does when memory is short."""
    journal.write("start")
    os.kill(os.getpid(), signal.SIGKILL)
