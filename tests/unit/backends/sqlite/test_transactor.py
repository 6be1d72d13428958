"""The transactor: transactions of jobs go one at a time through the file, and hold up nobody for long."""

import asyncio
import sqlite3
from contextlib import closing, suppress
from datetime import timedelta

import pytest

from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.backends.sqlite.database import Synchronous
from deeper_tasks.errors import BackendUnavailableError, TransactionError
from deeper_tasks.testing.conformance.builders import join, put, put_running, settlement, state_of
from interruptions import interrupt
from simulated_work import work_for


@pytest.fixture
async def other(path, backend):
    other = SQLiteBackend(path, timeout=20)
    await other.open()
    yield other
    await other.close()


@pytest.fixture
def ledger(path, backend, query):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE ledger (entry TEXT)")
        connection.commit()
    return lambda: [entry for (entry,) in query("SELECT entry FROM ledger ORDER BY rowid")]


def write(transaction, entry):
    transaction.connection.execute("INSERT INTO ledger VALUES (?)", (entry,))


async def work(backend, node, number, *, inside):
    """Run so many transactions as fast as they come; returns when each was inside."""
    for _ in range(number):
        job = await put_running(backend, node, queue=node)
        transaction = await backend.begin(is_async=True)
        inside.append(node)
        assert len(inside) == 1
        await work_for(0.005)
        write(transaction, node)
        inside.remove(node)
        assert await transaction.complete(settlement(job))


async def test_those_of_two_processes_go_one_at_a_time_and_in_turn(backend, other, ledger):
    nodes, inside = [await join(backend), await join(other)], []
    await asyncio.gather(
        work(backend, nodes[0], 30, inside=inside),
        work(other, nodes[1], 30, inside=inside),
    )
    entries = ledger()
    assert sorted(entries) == sorted(nodes * 30)
    # Neither has had to wait for all of the other's.
    assert len(set(entries[:20])) == 2


async def test_who_only_writes_comes_between_those_that_follow_each_other(path, backend, other, ledger):
    node, done = await join(backend), asyncio.Event()

    async def hold_on_and_on():
        while not done.is_set():
            transaction = await backend.begin(is_async=True)
            write(transaction, "rolled back")
            await asyncio.sleep(0.05)
            await transaction.rollback()

    async def hold_as_well():
        while not done.is_set():
            transaction = await other.begin(is_async=True)
            await asyncio.sleep(0.05)
            await transaction.rollback()

    third = SQLiteBackend(path, timeout=20)
    await third.open()
    holding = [asyncio.create_task(hold_on_and_on()), asyncio.create_task(hold_as_well())]
    try:
        for _ in range(20):
            await third.beat(node)
            await put(third)
    finally:
        done.set()
        await asyncio.gather(*holding)
        await third.close()


async def test_one_that_is_cancelled_while_it_waits_begins_nothing(backend, ledger):
    first = await backend.begin(is_async=True)
    waiting = [asyncio.create_task(backend.begin(is_async=True)) for _ in range(3)]
    await asyncio.sleep(0)
    for each in waiting[:2]:
        each.cancel()
    answers = await asyncio.gather(*waiting[:2], return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 2
    await first.rollback()
    third = await asyncio.wait_for(waiting[2], 30)
    write(third, "by the third")
    await third.rollback()
    assert ledger() == []


async def test_closing_the_store_waits_for_the_one_under_way_and_refuses_those_that_wait(path, ledger):
    backend = SQLiteBackend(path)
    await backend.open()
    job = await put_running(backend, await join(backend))
    transaction = await backend.begin(is_async=True)
    waiting = asyncio.create_task(backend.begin(is_async=True))
    await asyncio.sleep(0)
    write(transaction, "paid")
    closing_it = asyncio.create_task(backend.close())
    for _ in range(10):
        await asyncio.sleep(0)
    assert await transaction.complete(settlement(job))
    await closing_it
    with pytest.raises(BackendUnavailableError, match="closed"):
        await waiting
    with pytest.raises(BackendUnavailableError, match="not open"):
        await backend.begin(is_async=True)
    assert ledger() == ["paid"]


async def test_a_file_that_is_gone_is_no_place_for_a_transaction(path, backend):
    # The writing threads have it open and would go on.
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(BackendUnavailableError, match="removed or never created"):
        await backend.begin(is_async=True)
    assert not path.exists()


async def test_an_application_that_holds_the_file_is_waited_for_no_longer_than_the_timeout(path):
    backend = SQLiteBackend(path, timeout=0.2)
    await backend.open()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailableError, match="locked"):
            await backend.begin(is_async=True)
        connection.rollback()
    await (await backend.begin(is_async=True)).rollback()
    await backend.close()


@pytest.mark.parametrize(("synchronous", "level"), [(Synchronous.FULL, 2), (Synchronous.NORMAL, 1)])
async def test_its_commit_is_as_durable_as_the_stores(path, synchronous, level):
    backend = SQLiteBackend(path, synchronous=synchronous)
    await backend.open()
    transaction = await backend.begin(is_async=True)
    assert transaction.connection.execute("PRAGMA synchronous").fetchone() == (level,)
    assert transaction.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await transaction.rollback()
    await backend.close()


@pytest.mark.parametrize("is_on", [True, False])
async def test_foreign_keys_of_the_application_are_enforced_if_it_says_so(path, is_on):
    backend = SQLiteBackend(path, has_foreign_keys=is_on)
    await backend.open()
    transaction = await backend.begin(is_async=True)
    assert transaction.connection.execute("PRAGMA foreign_keys").fetchone() == (int(is_on),)
    await transaction.rollback()
    await backend.close()


async def test_the_limit_is_the_shorter_of_what_is_asked_and_half_the_timeout(path):
    backend = SQLiteBackend(path, timeout=0.2)
    assert backend.capabilities.longest_job_transaction == timedelta(seconds=0.1)
    await backend.open()
    transaction = await backend.begin(is_async=True, limit=timedelta(hours=1))
    await put(backend)
    assert str(transaction.broken) == "the job's transaction took longer than the 100 ms that it may take"
    with pytest.raises(TransactionError, match=r"100 ms that it may take; it was rolled back"):
        transaction.connection.execute("SELECT 1")
    await backend.close()


async def test_an_end_that_nobody_waits_for_any_more_happens_all_the_same(backend, ledger):
    job = await put_running(backend, await join(backend))
    transaction = await backend.begin(is_async=True)
    write(transaction, "paid")
    ending = asyncio.create_task(transaction.complete(settlement(job)))
    await asyncio.sleep(0)
    ending.cancel()
    with suppress(asyncio.CancelledError):
        await ending
    # It comes after it.
    await put(backend)
    assert (ledger() == ["paid"]) == (await state_of(backend, job.id) == "completed")


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
async def test_transactions_begin_and_end_after_an_exception_in_the_thread_that_waits_for_them(backend, ledger, kind):
    node = await join(backend)
    await (await backend.begin(is_async=True)).rollback()
    interrupt("deeper-jobs", kind)
    async with asyncio.timeout(10):
        job = await put_running(backend, node)
        transaction = await backend.begin(is_async=True)
        write(transaction, "written")
        assert await transaction.complete(settlement(job)) is not None
    assert ledger() == ["written"]


async def test_a_transaction_that_an_exception_in_its_thread_cuts_off_is_rolled_back_and_answered(backend, ledger):
    node = await join(backend)
    async with asyncio.timeout(10):
        job = await put_running(backend, node)
        transaction = await backend.begin(is_async=True)
        write(transaction, "cut off")
        interrupt("deeper-jobs", KeyboardInterrupt)
        with pytest.raises((BackendUnavailableError, TransactionError)):
            await transaction.complete(settlement(job))
        assert await state_of(backend, job.id) == "running"
        await (await backend.begin(is_async=True)).rollback()
    assert ledger() == []
