"""A store that is dropped and made anew under those who use it: they go on with the new one, without a restart."""

import asyncio
import logging
from contextlib import suppress

import psycopg
import pytest

from callers import BLOCKING
from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.errors import BackendUnavailableError, InvalidOptionError, SchemaError
from deeper_tasks.sync import run_here
from deeper_tasks.testing.conformance.builders import new_job


@pytest.fixture
def drop(query):
    """Return a way to drop the schema."""

    def drop():
        # It locks table after table, in an order of its own, and so may meet a worker's statement in a deadlock.
        while True:
            with suppress(psycopg.errors.DeadlockDetected):
                return query("DROP SCHEMA deeper CASCADE")

    return drop


@pytest.fixture
def make_anew(drop, database_url):
    """Return a way to drop the schema and to make it anew."""

    async def make_anew():
        drop()
        await PostgresBackend(Address(conninfo=database_url)).migrate()

    return make_anew


async def test_an_enqueue_says_that_the_schema_is_gone_and_works_when_it_is_there_again(backend, drop, database_url):
    await backend.insert([new_job()])
    drop()
    with pytest.raises(SchemaError, match=r"lacks a part of the schema.*run 'deeper migrate'") as raised:
        await backend.insert([new_job()])
    assert isinstance(raised.value, BackendUnavailableError)
    await PostgresBackend(Address(conninfo=database_url)).migrate()
    [insertion] = await backend.insert([new_job()])
    assert await backend.get(insertion.id)


async def test_an_enqueue_inside_the_callers_transaction_goes_to_the_new_store(backend, make_anew, database_url):
    await backend.insert([new_job()])
    await make_anew()
    with psycopg.connect(database_url) as connection:
        [insertion] = await backend.insert([new_job()], connection=connection)
    assert await backend.get(insertion.id)


def test_a_blocking_enqueue_in_the_callers_transaction_goes_to_the_new_store_too(database_url):
    manager = BackgroundTaskManager(database_url)
    send = manager.task(name="send")(lambda: None)
    with manager.sync as sync:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA deeper CASCADE")
        with BackgroundTaskManager(database_url).sync as other:
            other.migrate()
        with psycopg.connect(database_url) as connection:
            task_id = sync.enqueue_task(send, connection=connection)
        assert sync.get_task_status(task_id).id == task_id


@pytest.mark.parametrize("kind", BLOCKING)
def test_a_blocking_connection_to_a_database_without_a_store_is_refused_as_an_async_one_is(
    database_url, postgres, kind
):
    async def enqueue():
        async with BLOCKING[kind](url) as caller:
            with pytest.raises(InvalidOptionError, match=r"another database.*run 'deeper migrate'"):
                sync.enqueue_task(send, connection=caller.connection)
            await caller.execute("SELECT 1")

    manager = BackgroundTaskManager(database_url)
    send = manager.task(name="send")(lambda: None)
    with postgres.new_database() as url, manager.sync as sync:
        run_here(enqueue())


async def test_a_callers_connection_to_another_store_is_refused_as_before(backend, postgres):
    with postgres.new_database() as url:
        await PostgresBackend(Address(conninfo=url)).migrate()
        with psycopg.connect(url) as connection, pytest.raises(InvalidOptionError, match="belong to another database"):
            await backend.insert([new_job()], connection=connection)


async def test_a_worker_and_a_producer_go_on_with_the_new_store(database_url, drop, working, wait_until, caplog):
    caplog.set_level(logging.WARNING, "deeper_tasks")
    async with (
        BackgroundTaskManager(database_url, poll_interval_seconds=0.05) as manager,
        BackgroundTaskManager(database_url) as producer,
    ):

        @manager.task(name="greet", cron="0 0 1 1 *")
        async def greet():
            return "hello"

        async with working(manager):
            await producer.result(await producer.enqueue_task(greet), timeout=60)
            await wait_until(manager.list_recurring_tasks)
            # Not in the loop of the worker, whose transactions under way the drop waits for.
            await asyncio.to_thread(drop)
            await wait_until(lambda: "the store does not answer" in caplog.text)
            with pytest.raises(SchemaError):
                await producer.enqueue_task(greet)
            await PostgresBackend(Address(conninfo=database_url)).migrate()
            job = await wait_until(lambda: _enqueued(producer, greet))
            assert await producer.result(job, timeout=60) == "hello"
            assert [entry.name for entry in await wait_until(manager.list_recurring_tasks)] == ["greet"]
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_worker_that_registers_anew_amid_a_restore_tries_until_the_tables_have_their_keys(
    database_url, query, working, wait_until, caplog
):
    async with BackgroundTaskManager(database_url, poll_interval_seconds=0.05, heartbeat_seconds=0.1) as manager:
        greet = manager.task(name="greet")(lambda: "hello")
        async with working(manager) as worker:
            await wait_until(lambda: worker.is_ready)
            # As pg_restore has it for a while: the rows of another time, and no constraints.
            await asyncio.to_thread(query, "ALTER TABLE deeper.node DROP CONSTRAINT node_pkey")
            await asyncio.to_thread(query, "DELETE FROM deeper.node")
            await wait_until(lambda: "no unique or exclusion constraint" in caplog.text)
            assert not worker.is_ready
            await asyncio.to_thread(query, "ALTER TABLE deeper.node ADD CONSTRAINT node_pkey PRIMARY KEY (id)")
            assert await manager.result(await greet.enqueue(), timeout=60) == "hello"
            assert worker.is_ready


async def _enqueued(producer, task):
    with suppress(BackendUnavailableError):
        return await producer.enqueue_task(task)
