"""Transactional tasks that fork: the copy takes no part in the transaction."""

import asyncio
import os
import sqlite3
import sys
from contextlib import closing

import pytest

from deeper_tasks import BackgroundTaskManager, current_job
from deeper_tasks.domain.state import State


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="a fork beside threads is a warning there")
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_task_that_forks_loses_its_transaction_and_does_not_wait_for_itself(
    kind, tmp_path, working, wait_until
):
    with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
        connection.execute("CREATE TABLE ledger (entry TEXT)")

    def write(entry):
        current_job().connection.execute("INSERT INTO ledger VALUES (?)", (entry,))

    def pay():
        write("paid")
        if current_job().attempt == 1:
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
            write("after the fork")

    async def pay_on_loop():
        pay()

    url = f"sqlite:///{tmp_path}/tasks.db"
    async with BackgroundTaskManager(url, poll_interval_seconds=0.05, default_retry_delay_seconds=0) as manager:
        task = manager.task(name="shop.pay", transactional=True)(pay if kind == "thread" else pay_on_loop)
        async with working(manager):
            task_id = await task.enqueue()

            async def completed():
                status = await manager.get_task_status(task_id)
                return status if status.status is State.COMPLETED else None

            status = await wait_until(completed)
        # It has a thread of its own.
        await asyncio.to_thread(manager.sync.close)
    assert status.attempts == 2
    assert "forked" in status.errors[0].message
    with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
        assert connection.execute("SELECT entry FROM ledger").fetchall() == [("paid",)]
