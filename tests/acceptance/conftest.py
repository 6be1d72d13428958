"""What all acceptance tests share: an application, real processes that run it, and a way to wait for them."""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "app"))

from workshop import tasks
from workshop.crew import Crew

from deeper_tasks import BackgroundTaskManager

# They find processes by /proc.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]

_LOOK = 0.02


@pytest.fixture
def crew(request, tmp_path):
    """The processes of a test; on SQLite, if the test is not parametrised by `STORES`."""
    store = getattr(request, "param", "sqlite")
    crew = Crew(tmp_path, url=request.getfixturevalue("database_url") if store == "postgresql" else None)
    yield crew
    crew.end()


@pytest.fixture
async def manager(crew):
    async with BackgroundTaskManager(crew.url) as manager:
        manager.include(tasks)
        yield manager


@pytest.fixture
def wait_until():
    return _wait_until


async def _wait_until(condition, *, seconds=30.0):
    """Return what `condition`, a function or an async one, gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() >= deadline:
            pytest.fail(f"after {seconds:g} s still not true: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(_LOOK)
