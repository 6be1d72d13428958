"""An application as it is: several processes meet on a new store, and tasks enqueue tasks."""

import pytest
from workshop.crew import STORES

from deeper_tasks import BackgroundTaskManager


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_processes_that_open_a_new_store_at_the_same_time_all_find_it_ready(crew, wait_until):
    workers = [crew.worker() for _ in range(4)]
    await wait_until(lambda: all(worker.says("started") for worker in workers))
    async with BackgroundTaskManager(crew.url) as manager:
        assert len(await manager.backend.nodes()) == 4
    assert [worker.stop() for worker in workers] == [0] * 4
    crew.check_database()


async def test_a_task_on_the_loop_in_a_thread_or_in_a_process_enqueues_the_next(crew, wait_until):
    worker = crew.worker("default:4", "workshop.chain", include="", default_max_attempts=1)
    async with BackgroundTaskManager(crew.url) as manager:
        job = await manager.enqueue_task("workshop.chain", "first_link", max_attempts=1)
        for _ in range(3):
            job = await manager.result(job, timeout=30)
        await manager.result(job, timeout=30)
    assert [entry.attempt for entry in crew.journal("start")] == [1, 1, 1, 1]
    assert worker.stop() == 0
    assert crew.alive() == []
