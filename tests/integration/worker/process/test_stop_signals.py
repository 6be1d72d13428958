"""Signals that were blocked where a worker started: the worker and the processes of its jobs hear them."""

import asyncio
import os
import signal
import subprocess

import pytest

from deeper_tasks import BackgroundTaskManager
from servers.waiting import PATIENCE

STOPS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@pytest.fixture
async def manager():
    async with BackgroundTaskManager("memory://") as manager:
        yield manager


async def _worker(manager):
    started = asyncio.Event()
    working = asyncio.create_task(manager.run_worker(on_start=lambda _: started.set()))
    await started.wait()
    return working


@pytest.fixture
def _blocked_stops():
    """Block the signals to stop, as the program that starts another may have done before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def blocked():
    """Return which signals to stop are blocked for a program that is started here."""
    shown = subprocess.run(["grep", "SigBlk", "/proc/self/status"], capture_output=True, text=True, check=True)
    mask = int(shown.stdout.split()[1], 16)
    return [number.name for number in STOPS if mask >> (number - 1) & 1]


async def blocked_in_coroutine():
    return blocked()


@pytest.mark.usefixtures("_blocked_stops")
async def test_signals_that_were_blocked_at_the_start_are_heard_by_a_worker_and_what_its_jobs_start(manager, caplog):
    caplog.set_level("INFO", "deeper_tasks")
    assert blocked() == ["SIGHUP", "SIGINT", "SIGTERM"]
    working = await _worker(manager)
    for code in (blocked, blocked_in_coroutine):
        task = manager.task(name=code.__name__)(code)
        assert await manager.result(await task.enqueue(), timeout=PATIENCE) == []
    assert "are unblocked now: SIGINT, SIGTERM" in caplog.text
    os.kill(os.getpid(), signal.SIGTERM)
    assert (await working).is_stopping
    assert blocked() == ["SIGHUP", "SIGINT", "SIGTERM"]
