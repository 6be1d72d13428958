"""What the tests of the manager and of the worker share: stores, managers, and waiting without sleeping."""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deeper_tasks import BackgroundTaskManager

sys.path.append(str(Path(__file__).parent))

# The tests start hundreds of processes, and without bytecode each of them would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell has what runs in its background ignore Ctrl-C, and `nohup` SIGHUP. So would all programs that the tests start.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

pytest_plugins = ["servers.fixtures"]

_PATIENCE = 20.0


def pytest_collection_finish():
    """Keep the collected tests, some million objects, out of every collection of garbage from here on: 0.5 s each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["memory", "sqlite"])
def url(request, tmp_path):
    """The stores that a test runs on, by their URLs."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/tasks.db"


@pytest.fixture
async def manager(url):
    async with BackgroundTaskManager(url, poll_interval_seconds=0.05) as manager:
        yield manager


@pytest.fixture
def working():
    """Return a context in which a worker of a manager runs."""

    @asynccontextmanager
    async def working(manager, queues=None):
        started = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(
            manager.run_worker(queues, handle_signals=False, on_start=started.set_result), name="worker"
        )
        worker = await started
        try:
            yield worker
        finally:
            worker.stop()
            await running

    return working


@pytest.fixture
def wait_until():
    """Return a poll with a deadline, for what a real thread or process does in its own time."""

    async def wait_until(condition: Callable[[], object], *, seconds: float = _PATIENCE):
        deadline = time.monotonic() + seconds
        while True:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            assert time.monotonic() < deadline, "waited in vain"
            await asyncio.sleep(0.002)

    return wait_until
