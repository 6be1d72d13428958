"""An enqueue while its PostgreSQL server is away: the job is there when the server is back."""

import asyncio

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.testing import FaultyBackend
from servers.waiting import PATIENCE


def greeting(name):
    return f"hello {name}"


@pytest.fixture
def faulty():
    return FaultyBackend(MemoryBackend())


@pytest.fixture
def manager(faulty):
    """A manager whose enqueues are tried again for a minute; its store is not open yet."""
    manager = BackgroundTaskManager(backend=faulty, enqueue_patience_seconds=60)
    manager.task(name="greet")(greeting)
    return manager


@pytest.fixture
def greet(manager):
    return manager.registry.get("greet")


async def jobs_of(manager):
    return [job.id for job in (await manager.list_tasks()).entries]


async def test_a_server_that_is_away_gets_the_job_when_it_is_back(start_postgres, wait_until):
    server = start_postgres()
    async with BackgroundTaskManager(server.url) as manager:
        greet = manager.task(name="greet")(greeting)
        await asyncio.to_thread(server.stop)
        enqueuing = asyncio.create_task(greet.with_options(enqueue_patience_seconds=PATIENCE).enqueue("Ada"))
        await wait_until(lambda: manager.availability.is_away, seconds=PATIENCE)
        await asyncio.to_thread(server.start)
        task_id = await enqueuing
        assert await jobs_of(manager) == [task_id]
