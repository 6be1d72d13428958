"""The connections: a few for each event loop, lent for a call, and none left behind."""

import asyncio
import gc
import threading

import psycopg
import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.postgres.connections import Connections
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.testing.conformance.builders import new_job


@pytest.fixture
def connections(store_url):
    return Connections(Address(conninfo=store_url, pool_size=2, timeout=SHORT))


SHORT = Address(conninfo="").timeout / 10


async def pid_of(connections):
    async with connections.lend() as connection:
        return connection.info.backend_pid


@pytest.fixture
def sessions(store_url):
    """Return how many sessions the server has in the database, but for the one that asks."""

    def sessions():
        with psycopg.connect(store_url, autocommit=True) as connection:
            [(count,)] = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
        return count

    return sessions


async def test_one_after_the_other_share_a_connection(connections, sessions):
    assert len({await pid_of(connections) for _ in range(5)}) == 1
    assert sessions() == 1
    await connections.close()


async def test_those_at_once_have_one_each_and_no_more_than_there_may_be(connections, sessions):
    async with connections.lend() as one, connections.lend() as other:
        assert one.info.backend_pid != other.info.backend_pid
        with pytest.raises(BackendUnavailableError, match=r"all 2 connections were in use for 1 s: raise pool_s"):
            await pid_of(connections)
        waiting = asyncio.create_task(pid_of(connections))
        await asyncio.sleep(0)
    assert await waiting in {one.info.backend_pid, other.info.backend_pid}
    assert sessions() == 2
    await connections.close()


async def test_a_place_comes_back_whatever_became_of_the_call(connections):
    for _ in range(5):
        with pytest.raises(LookupError):
            async with connections.lend():
                raise LookupError
        with pytest.raises(psycopg.Error):
            async with connections.lend() as connection:
                await connection.execute("SELECT 1 / 0")
        lending = asyncio.create_task(pid_of(connections))
        await asyncio.sleep(0)
        lending.cancel()
        await asyncio.wait([lending])
    async with connections.lend(), connections.lend():
        pass
    await connections.close()


async def test_one_that_comes_back_inside_a_transaction_is_dropped(connections, sessions, wait_until):
    async with connections.lend() as connection:
        await connection.execute("BEGIN")
    await wait_until(lambda: sessions() == 0)
    async with connections.lend() as connection:
        assert connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
    await connections.close()


async def test_an_idle_one_that_the_server_has_ended_is_noticed(connections, store_url):
    pid = await pid_of(connections)
    with psycopg.connect(store_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 30000)", [pid])
    async with connections.lend() as connection:
        assert connection.info.backend_pid != pid
        await connection.execute("SELECT 1")
    await connections.close()


def test_loops_one_after_the_other_have_their_own(store_url, sessions, wait_until):
    backend = PostgresBackend(Address(conninfo=store_url))

    async def insert():
        await backend.open()
        [insertion] = await backend.insert([new_job()])
        return await backend.get(insertion.id)

    assert asyncio.run(insert()) is not None
    assert asyncio.run(insert()) is not None
    # That of the loop before was closed by the next.
    asyncio.run(wait_until(lambda: sessions() <= 2))
    asyncio.run(backend.close())
    asyncio.run(wait_until(lambda: sessions() == 0))


def test_loops_at_once_in_several_threads_have_their_own(store_url):
    connections = Connections(Address(conninfo=store_url))
    barrier, pids = threading.Barrier(4, timeout=60), []

    async def meet():
        async with connections.lend() as connection:
            pids.append(connection.info.backend_pid)
            await asyncio.to_thread(barrier.wait)
            await connection.execute("SELECT 1")

    threads = [threading.Thread(target=asyncio.run, args=[meet()]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(pids)) == 4
    asyncio.run(connections.close())


async def test_close_waits_for_the_calls_under_way(store_url, sessions):
    backend = PostgresBackend(Address(conninfo=store_url))
    await backend.open()
    with psycopg.connect(store_url) as other:
        other.execute("LOCK TABLE deeper.queue")
        asking = asyncio.create_task(backend.queues())
        await asyncio.sleep(0)
        closing = asyncio.create_task(backend.close())
        done, _ = await asyncio.wait([closing], timeout=0.05)
        assert not done
        assert sessions() == 2
    assert await asking == []
    await closing
    assert sessions() == 0


async def test_a_closed_store_says_so_and_can_be_opened_again(store_url):
    backend = PostgresBackend(Address(conninfo=store_url))
    for _ in range(2):
        with pytest.raises(BackendUnavailableError, match="the store is not open; use 'async with manager:'"):
            await backend.insert([new_job()])
        await backend.open()
        await backend.insert([new_job()])
        await backend.close()


def test_a_store_that_nobody_closed_leaves_no_warning_and_no_connection(store_url, sessions, wait_until):
    async def use():
        backend = PostgresBackend(Address(conninfo=store_url))
        await backend.open()
        await asyncio.gather(*(backend.queues() for _ in range(3)))

    asyncio.run(use())
    gc.collect()
    asyncio.run(wait_until(lambda: sessions() == 0))
