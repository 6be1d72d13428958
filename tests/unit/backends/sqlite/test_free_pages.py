"""Space: what deleted jobs leave goes back to the file system, in small steps, and not all of it."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.protocol import JobFilter, Retention
from deeper_tasks.backends.sqlite import SQLiteBackend, free_pages
from deeper_tasks.domain.settlement import End
from deeper_tasks.testing.conformance.builders import NOW, join, put_many, settle, take_all

DAY = timedelta(days=1)
FAT = '"' + "x" * 4000 + '"'
ALL = Retention(completed=timedelta(0), failed=timedelta(0))


async def put_fat(backend, number):
    """Insert jobs that have ended with a large result."""
    node = await join(backend)
    await put_many(backend, number)
    await settle(backend, await take_all(backend, node), End.COMPLETE, result=FAT)


@pytest.fixture
def pragma(query):
    return lambda name: query(f"PRAGMA {name}")[0][0]


@pytest.fixture
def connection(database):
    with closing(database.connect_to_write()) as connection:
        yield connection


async def test_a_new_file_can_give_space_back(backend, pragma):
    assert pragma("auto_vacuum") == 2


async def test_a_file_gets_shorter_when_its_jobs_are_pruned(backend, path, pragma):
    await put_fat(backend, 2_000)
    peak = pragma("page_count")
    while await backend.prune(ALL, now=NOW + DAY):
        pass
    assert pragma("page_count") < peak / 4
    await backend.close()
    assert path.stat().st_size < peak * pragma("page_size") / 4


async def test_a_part_of_the_free_pages_stays_for_the_next_jobs(backend, pragma):
    await put_fat(backend, 2_000)
    await put_many(backend, 500, arguments=f"[[{FAT}],{{}}]")
    await backend.prune(ALL, now=NOW + DAY)
    free, used = pragma("freelist_count"), pragma("page_count") - pragma("freelist_count")
    # The pages that say where others lie go as well: it is not a quarter to the page.
    assert used / 5 < free < used / 4 + free_pages.STEP


async def test_a_step_gives_back_no_more_than_so_many_pages(backend, connection, pragma):
    await put_fat(backend, 2_000)
    await backend.delete(JobFilter())
    await backend.delete(JobFilter())
    await backend.delete(JobFilter())
    before = pragma("page_count")
    assert free_pages.give_back(connection)
    assert before - pragma("page_count") == free_pages.STEP
    steps = 1
    while free_pages.give_back(connection):
        steps += 1
    assert steps > 2
    assert pragma("page_count") < before - steps * free_pages.STEP + free_pages.STEP
    assert not connection.in_transaction


async def test_the_log_is_truncated_after_space_was_given_back(backend, path):
    await put_fat(backend, 2_000)
    while await backend.prune(ALL, now=NOW + DAY):
        pass
    assert path.with_name("tasks.db-wal").stat().st_size == 0


async def test_a_log_that_somebody_reads_is_left_alone_at_once(backend, connection, path):
    await put_many(backend, 10)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM deeper_job").fetchall()
        await put_many(backend, 10)
        assert not free_pages.shorten(connection)
        assert tuple(connection.execute("PRAGMA busy_timeout").fetchone()) == (5000,)
        reader.execute("COMMIT")
    assert free_pages.shorten(connection)


async def test_a_file_that_was_made_otherwise_keeps_its_pages_until_it_is_compacted(path, query, pragma):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customer (name TEXT)")
        connection.execute("INSERT INTO customer VALUES ('Ada')")
        connection.commit()
    backend = SQLiteBackend(path, timeout=5)
    await backend.open()
    await put_fat(backend, 1_000)
    peak = pragma("page_count")
    while await backend.prune(ALL, now=NOW + DAY):
        pass
    assert (pragma("auto_vacuum"), pragma("page_count")) == (0, peak)
    async with BackgroundTaskManager(f"sqlite:///{path}") as manager:
        assert await manager.compact_store() > peak * pragma("page_size") / 2
        assert await manager.compact_store() == 0
    assert pragma("auto_vacuum") == 2
    assert query("SELECT name FROM customer") == [("Ada",)]
    await put_fat(backend, 10)
    await backend.close()
    assert path.stat().st_size < peak * pragma("page_size") / 4


async def test_a_store_that_needs_no_compacting_answers_zero():
    async with BackgroundTaskManager("memory://") as manager:
        assert await manager.compact_store() == 0
