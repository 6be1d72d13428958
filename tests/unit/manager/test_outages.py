"""A store that goes away under a worker and its manager, and comes back."""

import asyncio
import logging

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


async def test_a_worker_that_hardly_ever_polls_works_again_after_its_server_was_away_and_says_so_once(
    start_postgres, working, wait_until, caplog
):
    server = start_postgres()
    async with BackgroundTaskManager(
        server.url, poll_interval_seconds=NEVER, heartbeat_seconds=60, lease_seconds=NEVER
    ) as manager:
        greet = manager.task(name="greet")(lambda name: f"hello {name}")
        async with working(manager):
            await manager.result(await greet.enqueue("Ada"), timeout=PATIENCE)
            await asyncio.to_thread(server.stop)
            await wait_until(lambda: "the store does not answer" in caplog.text, seconds=PATIENCE)
            await asyncio.to_thread(server.start)
            async with BackgroundTaskManager(server.url) as producer:
                job = await producer.enqueue_task(greet, args=["Kurt"])
                assert await producer.result(job, timeout=PATIENCE) == "hello Kurt"
    told = [record for record in caplog.records if record.name == "deeper_tasks" and record.levelno > logging.INFO]
    assert [record.message.partition(":")[0] for record in told[1:]] == ["the store does not answer, trying again"]
