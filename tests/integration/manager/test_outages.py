"""A PostgreSQL server that stops under a worker, and comes back."""

import asyncio
import logging

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.testing import FaultyBackend
from servers.waiting import PATIENCE

NEVER = 3600.0


@pytest.fixture
async def faulty():
    return FaultyBackend(MemoryBackend())


@pytest.fixture
async def manager(faulty):
    async with BackgroundTaskManager(backend=faulty, poll_interval_seconds=0.05, heartbeat_seconds=0.1) as manager:
        manager.task(name="greet")(lambda name: f"hello {name}")
        yield manager


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
