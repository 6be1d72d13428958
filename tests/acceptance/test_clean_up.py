"""Clean-up: a file of many fat jobs gets short again while a worker goes on with its work."""

import asyncio
import sqlite3
import time
from contextlib import closing

import pytest
from workshop import tasks

from deeper_tasks import BackgroundTaskManager

JOBS = 20_000
DAY = 86_400_000_000
FILL = """
INSERT INTO deeper_job (
    id, state, task, arguments, queue, priority, attempt, max_attempts, original_max_attempts,
    inserted_at, scheduled_at, attempted_at, finished_at, result
)
WITH RECURSIVE number (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < :jobs)
SELECT
    printf('00000000-0000-7000-8000-%012x', i), 6, 'old.report', '[[],{}]', 'reports', 0, 1, 5, 5,
    :at + i, :at + i, :at + i, :at + i, printf('"%.*c"', 2000, 'x')
FROM number
"""
COUNT = "INSERT INTO deeper_counter VALUES ('reports', 6, 0, :jobs)"


def fill(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        # Two days ago: too early for the worker's own clean-up.
        connection.execute(FILL, {"jobs": JOBS, "at": time.time_ns() // 1000 - 2 * DAY})
        connection.execute(COUNT, {"jobs": JOBS})


@pytest.mark.timeout(240)
async def test_a_file_gets_short_again_while_a_worker_goes_on(crew, wait_until):
    log = crew.database.with_name(f"{crew.database.name}-wal")
    async with BackgroundTaskManager(crew.url) as manager:
        manager.include(tasks)
        fill(crew.database)
        peak = crew.database.stat().st_size
        assert peak > JOBS * 2000
        worker = crew.worker()
        await wait_until(lambda: worker.says("started"))
        ids, seen = [], []

        async def go_on():
            while True:
                ids.append(await manager.enqueue_task(tasks.nap))
                await manager.result(ids[-1], timeout=30)

        going_on = asyncio.create_task(go_on())
        await wait_until(lambda: ids)
        deleted = await manager.cleanup_old_tasks(completed_days=1, on_progress=seen.append)
        assert not going_on.done()
        going_on.cancel()
        await asyncio.gather(going_on, return_exceptions=True)
        assert deleted == JOBS == seen[-1]
        assert len(seen) == JOBS / 500
        # What was enqueued meanwhile was run meanwhile.
        assert len(ids) > 1
        await manager.result(ids[-1], timeout=30)
        assert (await manager.get_statistics()).queues["default"].completed == len(ids)

        async def is_short():
            await manager.cleanup_old_tasks()
            return crew.database.stat().st_size < peak / 4 and log.stat().st_size < peak / 4

        # At once, unless somebody was reading just then.
        await wait_until(is_short)
        assert worker.stop() == 0
    crew.check_database()
