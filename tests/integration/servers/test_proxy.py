import asyncio
import time

import psycopg
import pytest


@pytest.fixture
def proxy(start_proxy, database_url):
    return start_proxy(database_url)


@pytest.fixture
async def connect(proxy):
    """Return a function that opens a connection through the proxy, closed at the end."""
    opened = []

    async def connect():
        opened.append(await psycopg.AsyncConnection.connect(proxy.url, autocommit=True))
        return opened[-1]

    yield connect
    proxy.reset()
    for connection in opened:
        await connection.close()


async def test_what_is_sent_comes_through_either_way(connect, proxy):
    connection = await connect()
    text = "x" * 1_000_000
    answer = await connection.execute("SELECT %s::text || '!'", [text])
    assert await answer.fetchone() == (f"{text}!",)
    assert proxy.connections == proxy.accepted == 1


def test_a_test_without_a_loop_can_use_it_as_well(proxy):
    with psycopg.connect(proxy.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(proxy.url)


@pytest.mark.parametrize("ways", [(), ("requests",), ("replies",), ("requests", "replies")])
async def test_what_is_sent_while_the_network_hangs_arrives_when_it_works_again(connect, proxy, wait_until, ways):
    connection = await connect()
    proxy.hang(*ways)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(connection.execute("SELECT 1"))
        await wait_until(lambda: proxy.held(ways[0] if ways else "requests"))
        assert not asked.done()
        proxy.resume()
    assert await asked.result().fetchone() == (1,)
    assert proxy.held("requests") == proxy.held("replies") == 0


async def test_a_connection_can_be_opened_while_the_network_hangs_but_nothing_answers(connect, proxy, wait_until):
    proxy.hang()
    async with asyncio.TaskGroup() as group:
        connecting = group.create_task(connect())
        await wait_until(lambda: proxy.connections)
        assert not connecting.done()
        proxy.resume()


async def test_a_reply_can_be_lost_after_the_server_has_done_the_work(connect, proxy, database_url, wait_until):
    connection = await connect()
    proxy.hang("replies")

    async def lose():
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("CREATE TABLE made (id integer)")

    async with asyncio.TaskGroup() as group:
        group.create_task(lose())
        await wait_until(lambda: proxy.held("replies"))
        proxy.reset()
    with psycopg.connect(database_url) as direct:
        assert direct.execute("SELECT count(*) FROM made").fetchone() == (0,)


async def test_a_request_can_be_lost_before_the_server_hears_of_it(connect, proxy, database_url, wait_until):
    connection = await connect()
    proxy.hang("requests")

    async def lose():
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("CREATE TABLE made (id integer)")

    async with asyncio.TaskGroup() as group:
        group.create_task(lose())
        await wait_until(lambda: proxy.held("requests"))
        proxy.reset()
    with psycopg.connect(database_url) as direct, pytest.raises(psycopg.errors.UndefinedTable):
        direct.execute("SELECT count(*) FROM made")


async def test_a_reset_reaches_both_ends_of_all_connections_and_new_ones_are_welcome(
    connect, proxy, database_url, wait_until
):
    broken = [await connect(), await connect()]
    proxy.reset()
    assert proxy.connections == 0
    for connection in broken:
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT 1")
    with psycopg.connect(database_url, autocommit=True) as direct:
        others = (
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
        await wait_until(lambda: direct.execute(others).fetchone()[0])
    await (await connect()).execute("SELECT 1")


async def test_a_proxy_that_refuses_keeps_its_connections_and_accepts_again(connect, proxy):
    connection = await connect()
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        await connect()
    await connection.execute("SELECT 1")
    proxy.accept()
    await (await connect()).execute("SELECT 1")


async def test_a_delay_is_kept_each_way(connect, proxy):
    connection = await connect()
    proxy.delay(0.1)
    asked = time.monotonic()
    await connection.execute("SELECT 1")
    assert time.monotonic() - asked >= 0.2
    proxy.delay(0)


async def test_a_side_that_closes_closes_the_other(connect, proxy, wait_until):
    connection = await connect()
    await connection.close()
    await wait_until(lambda: proxy.connections == 0)


def test_a_client_of_a_server_that_is_down_is_reset(start_postgres, start_proxy):
    server = start_postgres()
    url = start_proxy(server.url).url
    server.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    server.start()
    psycopg.connect(url).close()


def test_a_closed_proxy_refuses(start_proxy, database_url):
    proxy = start_proxy(database_url)
    proxy.close()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(proxy.url)
