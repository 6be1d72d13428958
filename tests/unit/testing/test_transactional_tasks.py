"""Transactional tasks in the kit: on SQLite they run as in production; in memory one is told that they cannot."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from deeper_tasks import BackgroundTaskManager, State, current_job
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.errors import TransactionError, UnsupportedError
from deeper_tasks.integrations.events import JobCompleted, JobEnqueued
from deeper_tasks.testing import use_memory, use_store


@pytest.fixture
async def sqlite(tmp_path):
    backend = SQLiteBackend(tmp_path / "tasks.db")
    await backend.open()
    with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
        connection.execute("CREATE TABLE ledger (entry TEXT)")
        connection.commit()
    yield backend
    await backend.close()


@pytest.fixture
def kit(manager, sqlite):
    with use_store(manager, sqlite) as kit:
        yield kit


@pytest.fixture
def ledger(tmp_path):
    def ledger():
        with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
            return [entry for (entry,) in connection.execute("SELECT entry FROM ledger ORDER BY rowid")]

    return ledger


@pytest.fixture(params=["on the loop", "in a thread"])
def tasks(request, manager):
    """Two tasks: one that pays, in its transaction, and enqueues the other, which thanks."""

    @manager.task(name="shop.thank")
    async def thank(number: int):
        return f"thank you for {number}"

    def book(number):
        job = current_job()
        job.connection.execute("INSERT INTO ledger VALUES (?)", (f"paid {number} at attempt {job.attempt}",))

    async def pay(number: int, fails: int = 0):
        book(number)
        await thank.enqueue(number)
        if current_job().attempt <= fails:
            raise ValueError("boom")
        return number

    def pay_in_thread(number: int, fails: int = 0):
        book(number)
        manager.sync.enqueue_task(thank, args=[number])
        if current_job().attempt <= fails:
            raise ValueError("boom")
        return number

    chosen = pay if request.param == "on the loop" else pay_in_thread
    return manager.task(name="shop.pay", transactional=True, retry_delay_seconds=60)(chosen), thank


async def test_a_drain_runs_it_and_what_it_has_enqueued(kit, tasks, ledger):
    pay, _ = tasks
    heard = []
    kit.manager.subscribe(heard.append, JobCompleted)
    task_id = await pay.enqueue(7)
    summary = await kit.drain()
    assert [(run.task, run.end) for run in summary.runs] == [("shop.pay", "completed"), ("shop.thank", "completed")]
    assert ledger() == ["paid 7 at attempt 1"]
    status = await kit.manager.get_task_status(task_id)
    assert (status.status, status.result) == (State.COMPLETED, 7)
    assert status.finished_at == kit.clock.now()
    assert len(heard) == 2


async def test_an_attempt_that_fails_leaves_nothing_and_the_next_comes_with_time(kit, tasks, ledger):
    pay, _ = tasks
    task_id = await pay.enqueue(7, 1)
    await kit.drain(raise_errors=False)
    assert ledger() == []
    assert (await kit.manager.get_task_status(task_id)).status is State.RETRYABLE
    assert (await kit.manager.list_tasks()).total_entries == 1
    await kit.advance(timedelta(minutes=2))
    assert ledger() == ["paid 7 at attempt 2"]
    assert (await kit.manager.list_tasks(status="completed")).total_entries == 2


async def test_inline_runs_what_it_has_enqueued_once_it_is_committed(kit, tasks, ledger):
    pay, _ = tasks
    with kit.inline():
        task_id = await pay.enqueue(7)
    assert await kit.manager.result(task_id) == 7
    [thanks] = (await kit.manager.list_tasks(task="shop.thank")).entries
    assert await kit.manager.result(thanks.id) == "thank you for 7"
    assert ledger() == ["paid 7 at attempt 1"]


async def test_inline_runs_nothing_of_what_was_rolled_back(kit, tasks, ledger):
    pay, _ = tasks
    with kit.inline(), pytest.raises(ValueError, match="boom"):
        await pay.enqueue(7, 1)
    assert (await kit.manager.list_tasks(task="shop.thank")).total_entries == 0
    assert ledger() == []


async def test_time_that_a_task_lets_pass_counts_for_its_timeout(kit, manager, ledger):
    @manager.task(name="shop.slow", transactional=True, timeout_seconds=2, max_attempts=1)
    async def slow():
        current_job().connection.execute("INSERT INTO ledger VALUES ('paid')")
        await kit.sleep(3)

    task_id = await slow.enqueue()
    await kit.drain(raise_errors=False)
    status = await manager.get_task_status(task_id)
    assert (status.status, status.errors[-1].kind) == (State.DISCARDED, "TimeoutError")
    assert ledger() == []


async def test_what_was_enqueued_inside_is_told_of(kit, tasks):
    pay, _ = tasks
    heard, all_heard = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def hear(event):
        heard.append(event.task)
        if len(heard) == 2:
            loop.call_soon_threadsafe(all_heard.set)

    kit.manager.subscribe(hear, JobEnqueued)
    await pay.enqueue(7)
    await kit.drain()
    await asyncio.wait_for(all_heard.wait(), 30)
    assert heard == ["shop.pay", "shop.thank"]


async def test_in_memory_it_is_refused_when_it_is_enqueued_and_the_other_tasks_run(manager, tasks):
    pay, thank = tasks
    with use_memory(manager) as kit:
        with pytest.raises(UnsupportedError, match=r"'shop\.pay' is transactional, and the store 'that of this test'"):
            await pay.enqueue(7)
        task_id = await thank.enqueue(7)
        await kit.drain()
        assert await manager.result(task_id) == "thank you for 7"


def test_in_memory_it_cannot_be_defined(manager):
    with use_memory(manager), pytest.raises(UnsupportedError, match=r"sqlite:///tasks\.db"):
        manager.task(name="shop.pay", transactional=True)(lambda: None)


def test_a_manager_of_a_store_that_can_has_its_own_terms_back(tmp_path):
    manager = BackgroundTaskManager(f"sqlite:///{tmp_path}/tasks.db")
    with use_memory(manager):
        pass
    manager.task(name="shop.pay", transactional=True)(lambda: None)


async def test_a_write_beside_the_transaction_is_refused_in_the_kit_as_in_production(kit, manager):
    @manager.task(name="shop.pay", transactional=True)
    async def pay():
        await manager.queues.pause("default")

    await pay.enqueue()
    with pytest.raises(TransactionError, match="outside of the job's own transaction"):
        await kit.drain(raise_errors=True)
