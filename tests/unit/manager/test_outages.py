"""A store that goes away under a worker and its manager, and comes back."""

import asyncio

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends import availability
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.integrations.events import StoreUnavailable
from deeper_tasks.testing import FaultyBackend
from servers.waiting import PATIENCE

NEVER = 3600.0


@pytest.fixture
async def without_probes(monkeypatch):
    """Let no part of the worker ask whether the store is back: only an answer to another part can tell it."""
    monkeypatch.setattr(availability, "_LONGEST", NEVER)
    monkeypatch.setattr(availability, "_LONGEST_OF_ALL", NEVER)


@pytest.fixture
async def faulty():
    return FaultyBackend(MemoryBackend())


@pytest.fixture
async def manager(faulty):
    async with BackgroundTaskManager(backend=faulty, poll_interval_seconds=0.05, heartbeat_seconds=0.1) as manager:
        manager.task(name="greet")(lambda name: f"hello {name}")
        yield manager


@pytest.mark.usefixtures("without_probes")
@pytest.mark.parametrize("how", ["await", "sync"])
async def test_an_enqueue_of_the_same_process_ends_all_pauses(manager, faulty, working, wait_until, how):
    gone = []
    manager.subscribe(gone.append, StoreUnavailable)
    async with working(manager) as worker:
        await wait_until(lambda: worker.is_ready)
        outage = faulty.fail()
        # All roles pause, and the heartbeat.
        await wait_until(lambda: len(manager.availability._waiting) >= 6)
        outage.end()
        greet = manager.registry.get("greet")
        job = await greet.enqueue("Ada") if how == "await" else await asyncio.to_thread(greet.sync.enqueue, "Ada")
        async with asyncio.timeout(PATIENCE):
            assert await manager.result(job) == "hello Ada"
    assert len(gone) == 1
    if how == "sync":
        await asyncio.to_thread(manager.sync.close)
