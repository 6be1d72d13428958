"""The renewal: a session that is refused for what it is makes place for a new one, and not more often than it helps."""

import asyncio
import functools
import itertools
import logging
from contextlib import suppress

import psycopg
import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.postgres.listener import MISSED
from deeper_tasks.backends.postgres.renewal import Renewal
from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.testing.conformance.builders import new_job

_LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


@pytest.fixture
def execute(database_url):
    """Run a statement in the database as its owner, in a session that may write; returns its rows."""

    def execute(statement):
        options = "-c default_transaction_read_only=off"
        with psycopg.connect(database_url, autocommit=True, options=options) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    return execute


@pytest.fixture
def only_read(database_url, execute):
    """Return a way to have new sessions of the database only read, and to take that back."""
    name = database_url.rpartition("/")[2]

    def only_read(*, is_so=True, ends_sessions=False):
        execute(f"ALTER DATABASE {name} {'SET' if is_so else 'RESET'} default_transaction_read_only{' = on' * is_so}")
        if ends_sessions:
            execute(_END_OTHERS)

    return only_read


async def sessions_of(backend, count, statement="SELECT 1"):
    """Have so many sessions in the pool, each of which ran a statement; returns their process ids."""
    barrier, pids = asyncio.Barrier(count), set()

    async def use():
        async with backend._database.connections.lend() as connection:
            await connection.execute(statement)
            pids.add(connection.info.backend_pid)
            await barrier.wait()

    await asyncio.gather(*(use() for _ in range(count)))
    return pids


def test_renewals_come_at_once_and_then_with_pauses_that_grow_to_a_second():
    now = 1000.0
    renewal = Renewal(monotonic=lambda: now)
    moments = []
    for _ in range(2_000):
        if renewal.refused(renewal.generation):
            moments.append(now)
        now += 0.01
    pauses = [after - before for before, after in itertools.pairwise(moments)]
    assert moments[0] == 1000.0
    assert 0.05 <= pauses[0] < 0.12
    assert max(pauses) < 1.05
    assert len(moments) < 45
    assert renewal.generation == len(moments)


def test_a_session_of_before_the_last_renewal_is_replaced_without_another():
    renewal = Renewal()
    assert renewal.refused(0)
    assert renewal.refused(0)
    assert not renewal.refused(1)
    assert renewal.generation == 1


def test_the_pauses_are_short_again_after_a_minute_without_a_refusal():
    now = 1000.0
    renewal = Renewal(monotonic=lambda: now)
    for _ in range(1_000):
        renewal.refused(renewal.generation)
        now += 0.01
    now += 61
    assert renewal.refused(renewal.generation)
    now += 0.11
    assert renewal.refused(renewal.generation)


@pytest.mark.parametrize(
    "spoil",
    ["SET default_transaction_read_only = on", "SET ROLE pg_monitor", "DO $$ BEGIN DEALLOCATE ALL; END $$"],
    ids=["they only read", "they have another role", "their plans are gone"],
)
async def test_whatever_makes_the_sessions_useless_the_next_call_has_a_new_one(backend, spoil):
    for _ in range(3):
        await asyncio.gather(*(backend.insert([new_job()]) for _ in range(3)))
    before = await sessions_of(backend, 3, spoil)
    await backend.insert([new_job()])
    assert (await backend.find(JobQuery())).total == 10
    assert not before & await sessions_of(backend, 3)


async def test_a_server_that_goes_on_to_only_read_is_asked_for_few_new_sessions(backend, only_read, start_proxy):
    proxy = start_proxy(backend._database.address.conninfo)
    only_read()
    behind = PostgresBackend(Address(conninfo=proxy.url))
    await behind.open()
    for _ in range(50):
        with pytest.raises(
            BackendUnavailableError, match=r"accepts no writes at present: cannot .*; 'deeper doctor' names the cause"
        ):
            await behind.insert([new_job()])
    assert (await behind.find(JobQuery())).total == 0
    assert proxy.accepted < 25
    await behind.close()


async def test_hints_are_heard_on_the_server_that_the_new_sessions_are_on(backend, execute, wait_until):
    listening = backend.listen()
    while await anext(listening) != MISSED[-1]:
        pass
    [before] = execute(_LISTENERS)
    await sessions_of(backend, 1, "SET default_transaction_read_only = on")
    await backend.insert([new_job()])
    while await anext(listening) != MISSED[-1]:
        pass
    [after] = await wait_until(lambda: execute(_LISTENERS))
    assert after != before
    await listening.aclose()


async def test_a_worker_and_a_producer_outlive_a_database_that_only_reads_for_a_while(
    database_url, only_read, working, wait_until, caplog
):
    caplog.set_level(logging.INFO, "deeper_tasks")
    told = functools.partial(_count, caplog)
    async with BackgroundTaskManager(database_url, poll_interval_seconds=0.05) as manager:

        @manager.task(name="greet")
        async def greet():
            return "hello"

        async with working(manager):
            await manager.result(await greet.enqueue(), timeout=60)
            only_read(ends_sessions=True)
            await wait_until(lambda: told("the store does not answer"))
            with pytest.raises(BackendUnavailableError, match=r"accepts no writes at present|is not available"):
                await greet.enqueue()
            only_read(is_so=False)
            job = await wait_until(lambda: _enqueued(greet))
            assert await manager.result(job, timeout=60) == "hello"
            await wait_until(lambda: told("the store answers again"))
        assert told("the store does not answer") == told("the store answers again") == 1


async def _enqueued(task):
    with suppress(BackendUnavailableError):
        return await task.enqueue()


def _count(caplog, words):
    return sum(words in record.getMessage() for record in caplog.records)
