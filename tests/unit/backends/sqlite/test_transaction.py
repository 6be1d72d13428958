"""An insert on a caller's own connection: which connections it takes, and what it leaves of them as it was."""

import re
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import (
    BackendError,
    BackendUnavailableError,
    DuplicateJobError,
    InvalidOptionError,
    SchemaError,
)
from deeper_tasks.testing.conformance.builders import new_job

KEY = Unique(key="given:one")


@pytest.fixture
def connect(path):
    """Return an opening of connections of an application, to the store's file unless another is given."""
    opened = []

    def connect(file=path, **options):
        connection = sqlite3.connect(file, **{"timeout": 5, **options})
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
async def orders(backend, connect):
    """A connection to the store's file, with a table of the application's own."""
    connection = connect()
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
    connection.commit()
    return connection


async def total(backend):
    return (await backend.find(JobQuery())).total


# What the caller has set on its connection does not matter, and stays.


def refuse(*_):
    raise AssertionError("this is for the caller's own rows")


@pytest.mark.parametrize("text_factory", [bytes, str, bytearray, lambda text: text.decode().upper(), refuse])
async def test_the_callers_factories_do_not_matter_and_are_left_as_they_are(backend, orders, text_factory):
    known, first, second = new_job(), new_job(unique=KEY), new_job(unique=KEY)
    await backend.insert([known])
    orders.row_factory, orders.text_factory = refuse, text_factory
    answers = await backend.insert([known, first, second], connection=orders)
    assert [(answer.id, answer.is_new) for answer in answers] == [
        (known.request_id, False),
        (first.request_id, True),
        (first.request_id, False),
    ]
    with pytest.raises(DuplicateJobError):
        await backend.insert([new_job(request_id=known.request_id, arguments="[[],{}]")], connection=orders)
    assert (orders.row_factory, orders.text_factory) == (refuse, text_factory)
    orders.commit()
    assert await total(backend) == 2


async def test_the_callers_converters_do_not_matter(backend, connect, monkeypatch):
    monkeypatch.setitem(sqlite3.converters, "TEXT", refuse)
    connection = connect(detect_types=sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES)
    known, first, second = new_job(), new_job(unique=KEY), new_job(unique=KEY)
    await backend.insert([known])
    answers = await backend.insert([known, first, second], connection=connection)
    assert [answer.id for answer in answers] == [known.request_id, first.request_id, first.request_id]


async def test_the_callers_own_kinds_of_connection_and_cursor_do_not_matter(backend, connect):
    class Connection(sqlite3.Connection):
        def execute(self, *_):
            raise AssertionError("this is for the caller's own statements")

        executemany = cursor = execute

    connection = connect(factory=Connection)
    await backend.insert([new_job()], connection=connection)
    connection.commit()
    assert await total(backend) == 1


@pytest.mark.parametrize("level", ["", "DEFERRED", "IMMEDIATE", "EXCLUSIVE"])
async def test_a_connection_that_begins_by_itself_begins_with_the_job(backend, connect, level):
    connection = connect(isolation_level=level)
    await backend.insert([new_job()], connection=connection)
    assert connection.in_transaction
    assert connection.isolation_level == level
    connection.rollback()
    assert await total(backend) == 0
    with connection:
        await backend.insert([new_job()], connection=connection)
    assert await total(backend) == 1


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT mine"])
async def test_a_connection_in_autocommit_takes_jobs_once_a_transaction_is_begun(backend, connect, begin):
    connection = connect(isolation_level=None)
    with pytest.raises(InvalidOptionError, match=r"without an open transaction: execute BEGIN IMMEDIATE first"):
        await backend.insert([new_job()], connection=connection)
    assert not connection.in_transaction
    connection.execute(begin)
    await backend.insert([new_job()], connection=connection)
    connection.execute("COMMIT")
    assert await total(backend) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`autocommit` is of Python 3.12")
@pytest.mark.parametrize("level", ["", None])
async def test_the_newer_autocommit_counts_for_more_than_the_isolation_level(backend, connect, level):
    connection = connect(autocommit=True, isolation_level=level)
    with pytest.raises(InvalidOptionError, match="without an open transaction"):
        await backend.insert([new_job()], connection=connection)
    always = connect(autocommit=False, isolation_level=level)
    await backend.insert([new_job()], connection=always)
    assert await total(backend) == 0
    always.commit()
    assert await total(backend) == 1
    assert (connection.autocommit, always.autocommit) == (True, False)


async def test_a_callers_savepoint_takes_the_job_back_with_it(backend, orders):
    orders.execute("INSERT INTO orders (id) VALUES (1)")
    orders.execute("SAVEPOINT mine")
    await backend.insert([new_job()], connection=orders)
    orders.execute("ROLLBACK TO mine")
    orders.commit()
    assert await total(backend) == 0
    assert orders.execute("SELECT id FROM orders").fetchall() == [(1,)]


# A refused insert.


async def test_a_refused_insert_keeps_what_the_caller_wrote(backend, orders):
    known = new_job()
    await backend.insert([known])
    orders.execute("INSERT INTO orders (id) VALUES (1)")
    with pytest.raises(DuplicateJobError):
        await backend.insert([new_job(), new_job(request_id=known.request_id, arguments="[[],{}]")], connection=orders)
    orders.execute("INSERT INTO orders (id) VALUES (2)")
    orders.commit()
    assert orders.execute("SELECT id FROM orders").fetchall() == [(1,), (2,)]
    assert await total(backend) == 1


async def test_a_refused_insert_that_began_the_transaction_ends_it(backend, connect):
    known, connection = new_job(), connect()
    await backend.insert([known])
    with pytest.raises(DuplicateJobError):
        await backend.insert([new_job(request_id=known.request_id, arguments="[[],{}]")], connection=connection)
    assert not connection.in_transaction
    await backend.insert([new_job()])


async def test_a_caller_is_told_when_sqlite_has_rolled_back_the_whole_transaction(backend, orders):
    orders.execute("CREATE TEMP TRIGGER no BEFORE INSERT ON deeper_job BEGIN SELECT RAISE(ROLLBACK, 'not here'); END")
    orders.execute("INSERT INTO orders (id) VALUES (1)")
    with pytest.raises(BackendError, match=r"not here; SQLite has rolled the whole transaction back"):
        await backend.insert([new_job()], connection=orders)
    assert not orders.in_transaction
    assert orders.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    assert await total(backend) == 0


# What cannot be used is named, with the way out.


@pytest.mark.parametrize("thing", ["tasks.db", object(), 3, sqlite3], ids=["str", "object", "int", "module"])
async def test_what_is_no_connection_is_refused_by_its_type(backend, thing):
    with pytest.raises(InvalidOptionError, match=rf"cannot be of the type {type(thing).__qualname__}: give"):
        await backend.insert([new_job()], connection=thing)


async def test_a_cursor_is_refused_by_its_type(backend, connect):
    with closing(connect().cursor()) as cursor, pytest.raises(InvalidOptionError, match=r"of the type sqlite3\.Cursor"):
        await backend.insert([new_job()], connection=cursor)


async def test_a_connection_to_another_file_is_refused_with_both_names(backend, path, connect):
    other = path.with_name("other.db")
    with pytest.raises(InvalidOptionError, match=rf"{re.escape(str(other))}.*{re.escape(str(path))}"):
        await backend.insert([new_job()], connection=connect(other))
    with pytest.raises(InvalidOptionError, match="a database in memory"):
        await backend.insert([new_job()], connection=connect(":memory:"))


async def test_a_file_that_is_only_attached_is_refused(backend, path, connect):
    connection = connect(":memory:", isolation_level=None)
    connection.execute("ATTACH ? AS tasks", (str(path),))
    with pytest.raises(InvalidOptionError, match="a database in memory"):
        await backend.insert([new_job()], connection=connection)


async def test_a_connection_to_a_file_that_is_gone_is_refused(backend, path, connect):
    other = path.with_name("other.db")
    connection = connect(other)
    connection.execute("PRAGMA user_version")
    other.unlink()
    with pytest.raises(InvalidOptionError, match=r"other\.db"):
        await backend.insert([new_job()], connection=connection)


async def test_the_same_file_under_another_name_is_the_same(backend, path, connect, monkeypatch):
    link = path.with_name("link.db")
    link.symlink_to(path)
    monkeypatch.chdir(path.parent)
    for name in (link, "tasks.db", f"file:{path}?mode=rw"):
        connection = connect(name, uri=True)
        with connection:
            await backend.insert([new_job()], connection=connection)
    assert await total(backend) == 3


async def test_a_connection_of_another_thread_is_refused(backend, path, connect):
    with ThreadPoolExecutor(max_workers=1) as other:
        bound = other.submit(sqlite3.connect, path).result()
        factory = bound.text_factory
        with pytest.raises(InvalidOptionError, match=r"another thread: .* check_same_thread=False"):
            await backend.insert([new_job()], connection=bound)
        assert bound.text_factory is factory
        other.submit(bound.close).result()
        free = other.submit(sqlite3.connect, path, check_same_thread=False).result()
    with closing(free):
        with free:
            await backend.insert([new_job()], connection=free)
        assert await total(backend) == 1


async def test_a_closed_connection_is_refused(backend, connect):
    connection = connect()
    connection.close()
    with pytest.raises(InvalidOptionError, match="'connection' cannot be closed"):
        await backend.insert([new_job()], connection=connection)


@pytest.mark.parametrize("how", ["mode=ro", "query_only"])
async def test_a_connection_that_can_only_read_is_refused(backend, path, connect, how):
    connection = connect(f"file:{path}?mode={'ro' if how == 'mode=ro' else 'rw'}", uri=True)
    if how == "query_only":
        connection.execute("PRAGMA query_only = ON")
    with pytest.raises(InvalidOptionError, match=how):
        await backend.insert([new_job()], connection=connection)
    assert not connection.in_transaction


async def test_a_store_that_is_not_open_takes_no_connection(path, connect):
    with pytest.raises(BackendUnavailableError, match="not open"):
        await SQLiteBackend(path).insert([new_job()], connection=connect())


# Other writers.


async def test_a_locked_database_is_told_with_the_ids_and_leaves_the_transaction_usable(backend, connect):
    other, mine, job = connect(), connect(timeout=0.01, isolation_level=None), new_job()
    other.execute("BEGIN IMMEDIATE")
    mine.execute("BEGIN")
    with pytest.raises(BackendUnavailableError, match="BEGIN IMMEDIATE") as caught:
        await backend.insert([job], connection=mine)
    assert caught.value.request_ids == (job.request_id,)
    assert mine.in_transaction
    other.rollback()
    await backend.insert([job], connection=mine)
    mine.execute("COMMIT")
    assert await total(backend) == 1


async def test_a_locked_database_leaves_no_transaction_begun(backend, connect):
    other, mine = connect(), connect(timeout=0.01)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BackendUnavailableError, match=r"locked for longer than the connection's timeout"):
        await backend.insert([new_job()], connection=mine)
    assert not mine.in_transaction


async def test_a_transaction_whose_read_is_out_of_date_is_told_what_to_do(backend, orders):
    orders.execute("BEGIN")
    orders.execute("SELECT * FROM orders").fetchall()
    await backend.insert([new_job()])
    with pytest.raises(BackendUnavailableError, match=r"began with a read.*roll back and begin with BEGIN IMMEDIATE"):
        await backend.insert([new_job()], connection=orders)
    orders.rollback()
    orders.execute("BEGIN IMMEDIATE")
    await backend.insert([new_job()], connection=orders)
    orders.commit()
    assert await total(backend) == 2


async def test_the_store_writes_on_when_the_transaction_has_ended(backend, connect):
    connection = connect()
    await backend.insert([new_job()], connection=connection)
    connection.commit()
    await backend.insert([new_job()])
    await backend.insert([new_job()], connection=connection)
    connection.rollback()
    await backend.insert([new_job()])
    assert await total(backend) == 3


# Opening.


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_a_connection_opened_before_the_store_was_made_takes_jobs(path, connect, mode):
    connection = connect()
    connection.execute(f"PRAGMA journal_mode = {mode}")
    with connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    backend = SQLiteBackend(path)
    await backend.open()
    with connection:
        connection.execute("INSERT INTO orders VALUES (1)")
        await backend.insert([new_job()], connection=connection)
    assert await total(backend) == 1
    await backend.close()


async def test_a_store_that_is_there_opens_while_a_transaction_holds_up_writers(path, connect):
    first = SQLiteBackend(path)
    await first.open()
    await first.close()
    connection = connect()
    connection.execute("BEGIN IMMEDIATE")
    backend = SQLiteBackend(path, timeout=0.01)
    await backend.open()
    await backend.insert([new_job()], connection=connection)
    connection.commit()
    assert await total(backend) == 1
    await backend.close()


async def test_a_store_that_has_to_be_made_says_who_holds_it_up(path, connect):
    connection = connect()
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(BackendUnavailableError, match="by a transaction of another connection"):
        await SQLiteBackend(path, timeout=0.01).open()


async def test_a_store_of_another_version_is_refused_though_a_look_came_first(backend, path, connect):
    connection = connect()
    with connection:
        connection.execute("INSERT INTO deeper_migration (name) VALUES ('9999_from_the_future')")
    with pytest.raises(SchemaError, match="9999_from_the_future"):
        await SQLiteBackend(path).open()
