"""Enqueueing inside the caller's own transaction, through the manager: async, blocking, and after a fork."""

import asyncio
import gc
import inspect
import re
import sqlite3
import textwrap
import warnings
from contextlib import aclosing, closing

import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.noop import NoopBackend
from deeper_tasks.backends.protocol import Notification, Topic
from deeper_tasks.domain.state import State
from deeper_tasks.errors import (
    BackendUnavailableError,
    DuplicateJobError,
    InvalidOptionError,
    SchemaError,
    UnsupportedError,
)
from deeper_tasks.integrations.events import JobEnqueued


class Shop:
    """An application with a table of its own in the store's file."""

    def __init__(self, path):
        self.path = path
        self.connection = sqlite3.connect(path, timeout=5)
        with self.connection:
            self.connection.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY)")

    def order(self, number):
        self.connection.execute("INSERT INTO orders VALUES (?)", (number,))

    def orders(self):
        with closing(sqlite3.connect(self.path)) as other:
            return [row[0] for row in other.execute("SELECT id FROM orders ORDER BY id")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.db"


@pytest.fixture
def shop(path):
    """Opened before the manager, and before the store is made."""
    shop = Shop(path)
    yield shop
    shop.connection.close()


@pytest.fixture
def unopened(path):
    return BackgroundTaskManager(f"sqlite:///{path}?timeout=5", poll_interval_seconds=0.05)


@pytest.fixture
async def manager(unopened, shop):
    async with unopened:
        yield unopened


def with_task(manager):
    @manager.task(name="shop.send")
    async def send(number: int):
        return number

    return send


async def args_of_all(manager):
    return sorted(entry.args[0] for entry in (await manager.list_tasks()).entries)


# One transaction.


async def test_an_order_and_its_jobs_are_committed_together(manager, shop):
    send = with_task(manager)
    with shop.connection as connection:
        shop.order(1)
        first = await manager.enqueue_task(send, args=[1], connection=connection)
        later = await manager.schedule_task(send, args=[2], scheduled_at=60, connection=connection)
        bound = await send.with_options(connection=connection, priority=-1).enqueue(3)
        many = await manager.enqueue_many([send.call(4), send.call(5)], connection=connection)
        carried = await manager.enqueue_many([send.with_options(connection=connection).call(6)])
        assert all(each.is_new for each in (first, later, bound, *many, *carried))
        assert await args_of_all(manager) == shop.orders() == []
    assert await args_of_all(manager) == [1, 2, 3, 4, 5, 6]
    assert shop.orders() == [1]
    assert (await manager.get_task_status(later)).status is State.SCHEDULED
    assert (await manager.get_task_status(bound)).priority == -1


async def test_an_order_and_its_jobs_are_rolled_back_together(manager, shop):
    send = with_task(manager)

    async def sell():
        with shop.connection as connection:
            shop.order(1)
            await manager.enqueue_many([send.call(1), send.call(2)], connection=connection)
            raise RuntimeError("no stock")

    with pytest.raises(RuntimeError, match="no stock"):
        await sell()
    assert await args_of_all(manager) == shop.orders() == []


def test_the_blocking_facade_takes_part_in_transactions_of_its_callers_thread(unopened, shop):
    send = with_task(unopened)
    with unopened.sync as sync:
        with shop.connection as connection:
            shop.order(1)
            sync.enqueue_task(send, args=[1], connection=connection)
            sync.schedule_task(send, args=[2], scheduled_at=60, connection=connection)
            sync.enqueue_many((send.call(number) for number in (3, 4)), connection=connection)
            bound = send.with_options(connection=connection)
            sync.enqueue_many(bound.call(number) for number in (5, 6))
            bound.sync.enqueue(7)
            assert sync.list_tasks().total_entries == 0
        assert sync.list_tasks().total_entries == 7
        assert shop.orders() == [1]
        shop.order(2)
        sync.enqueue_task(send, args=[8], connection=shop.connection)
        send.sync.with_options(connection=shop.connection).enqueue(9)
        shop.connection.rollback()
        assert sync.list_tasks().total_entries == 7
        assert shop.orders() == [1]


async def test_the_blocking_facade_takes_part_inside_a_running_loop(unopened, shop):
    send = with_task(unopened)
    with shop.connection as connection:
        unopened.sync.open()
        shop.order(1)
        unopened.sync.enqueue_task(send, args=[1], connection=connection)
    assert unopened.sync.list_tasks().total_entries == 1
    unopened.sync.close()


def test_a_store_that_is_there_is_opened_by_the_first_enqueue_in_a_transaction(unopened, shop):
    send = with_task(unopened)
    asyncio.run(unopened.open())
    asyncio.run(unopened.close())
    with shop.connection as connection:
        shop.order(1)
        asyncio.run(send.with_options(connection=connection).enqueue(1))
        asyncio.run(unopened.close())
        unopened.sync.enqueue_task(send, args=[2], connection=connection)
    assert unopened.sync.list_tasks().total_entries == 2
    unopened.sync.close()


async def test_the_example_in_the_docs_runs(manager, shop, monkeypatch):
    send_invoice = with_task(manager)
    with shop.connection:
        shop.connection.execute("DROP TABLE orders")
        shop.connection.execute("CREATE TABLE orders (id INTEGER, state TEXT)")
    monkeypatch.chdir(shop.path.parent)
    doc = textwrap.dedent(inspect.getdoc(BackgroundTaskManager.enqueue_task))
    (example,) = re.findall(r"^(?:    .+\n)+(?=\nThe connection is used)", doc, re.MULTILINE)
    code = f"async def example():\n{textwrap.indent(textwrap.dedent(example), '    ')}    return connection"
    names = {"sqlite3": sqlite3, "manager": manager, "send_invoice": send_invoice}
    exec(code.replace("tasks.db", shop.path.name), names)
    (await names["example"]()).close()
    assert await args_of_all(manager) == shop.orders() == [42]


async def test_the_worker_runs_what_was_committed(manager, shop, working):
    send = with_task(manager)
    async with working(manager):
        with shop.connection as connection:
            task_id = await send.with_options(connection=connection).enqueue(7)
        assert await manager.result(task_id, timeout=20) == 7


# What an enqueue answers, inside a transaction.


async def test_a_unique_key_and_an_id_are_known_inside_the_transaction_and_gone_with_it(manager, shop):
    send = with_task(manager)
    once = send.with_options(unique="until_done", unique_key="the one", connection=shop.connection)
    first = await once.enqueue(1)
    second = await once.enqueue(2)
    assert (second, second.is_new) == (first, False)
    again = await manager.enqueue_task(send, args=[1], task_id=first, connection=shop.connection)
    assert (again, again.is_new) == (first, False)
    with pytest.raises(DuplicateJobError):
        await manager.enqueue_task(send, args=[9], task_id=first, connection=shop.connection)
    shop.connection.rollback()
    free = await once.enqueue(3)
    assert free.is_new
    shop.connection.commit()
    held = await send.with_options(unique="until_done", unique_key="the one").enqueue(4)
    assert (held, held.is_new) == (free, False)


async def test_no_part_of_a_connection_is_kept_with_the_job(manager, shop):
    send = with_task(manager)
    with shop.connection as connection:
        await send.with_options(connection=connection, tags=["a"], meta={"b": 1}).enqueue(1)
    stored = b"".join(part.read_bytes() for part in shop.path.parent.glob("shop.db*") if part.is_file())
    assert b"shop.send" in stored
    assert b"onnection" not in stored


async def test_a_callers_lock_is_told_with_the_id_to_send_again(manager, shop):
    send = with_task(manager)
    with closing(sqlite3.connect(shop.path, timeout=0.01)) as mine:
        shop.connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailableError) as caught:
            await manager.enqueue_task(send, args=[1], connection=mine)
        shop.connection.rollback()
        (task_id,) = caught.value.request_ids
        with mine:
            assert await manager.enqueue_task(send, args=[1], task_id=task_id, connection=mine) == task_id
    assert await args_of_all(manager) == [1]


# What cannot be.


async def test_calls_with_different_connections_are_refused(manager, shop):
    send = with_task(manager)
    mine = send.with_options(connection=shop.connection)
    with closing(sqlite3.connect(shop.path)) as other:
        theirs = send.with_options(connection=other)
        for calls, given in (
            ([mine.call(1), theirs.call(2)], None),
            ([mine.call(1), send.call(2)], None),
            ([send.call(1), mine.call(2)], None),
            ([send.call(1), mine.call(2)], other),
        ):
            with pytest.raises(InvalidOptionError, match="'connection' differs between the calls"):
                await manager.enqueue_many(calls, connection=given)
            with pytest.raises(InvalidOptionError, match="'connection' differs between the calls"):
                manager.sync.enqueue_many(iter(calls), connection=given)
        assert not other.in_transaction
    assert not shop.connection.in_transaction
    with shop.connection as connection:
        assert len(await manager.enqueue_many([send.call(1), mine.call(2)], connection=connection)) == 2
        assert await manager.enqueue_many([], connection=connection) == []
    assert await args_of_all(manager) == [1, 2]
    manager.sync.close()


async def test_a_recurring_task_and_a_definition_take_no_connection(manager, shop):
    send = with_task(manager)
    with pytest.raises(InvalidOptionError, match="'connection' is for one job"):
        await manager.schedule_recurring_task("daily", send, None, [1], "@daily", connection=shop.connection)
    with pytest.raises(InvalidOptionError, match="unknown option 'connection'"):
        manager.task(connection=shop.connection)(lambda: None)


async def test_memory_has_no_transactions_and_says_so(shop):
    async with BackgroundTaskManager("memory://") as manager:
        send = with_task(manager)
        with pytest.raises(UnsupportedError, match="leave connection= out"):
            await manager.enqueue_task(send, args=[1], connection=shop.connection)
        with pytest.raises(UnsupportedError, match="leave connection= out"):
            manager.sync.enqueue_many([send.call(1)], connection=shop.connection)
        assert (await manager.list_tasks()).total_entries == 0
        manager.sync.close()


async def test_switched_off_a_connection_is_taken_and_left_alone(path, shop):
    async with BackgroundTaskManager(f"sqlite:///{path}", enabled=False) as manager:
        send = with_task(manager)
        heard = []
        manager.subscribe(heard.append, JobEnqueued)
        shop.order(1)
        assert (await manager.enqueue_task(send, args=[1], connection=shop.connection)).is_new
        assert (await manager.enqueue_task(send, args=[1], connection=object())).is_new
        assert len(manager.sync.enqueue_many([send.call(1)], connection=shop.connection)) == 1
        shop.connection.commit()
        assert shop.orders() == [1]
        assert len(heard) == 3
        manager.sync.close()


async def test_a_connection_that_would_have_to_wait_is_for_async_code(monkeypatch):
    async def wait(*_, **__):
        await asyncio.sleep(0)

    monkeypatch.setattr(NoopBackend, "insert", wait)
    manager = BackgroundTaskManager("noop://")
    send = with_task(manager)
    with pytest.raises(InvalidOptionError, match=r"an async connection here: await the method of the manager"):
        manager.sync.enqueue_task(send, args=[1], connection=object())
    manager.sync.close()


# Those who wait are told when it is committed.


async def test_workers_are_told_at_the_commit_and_not_before(manager, shop, wait_until):
    send = with_task(manager)
    heard = asyncio.Queue()

    async def listen():
        async with aclosing(manager.backend.listen()) as hints:
            async for hint in hints:
                heard.put_nowait(hint)

    async def is_heard():
        await manager.backend.notify([sign])
        return not heard.empty()

    sign = Notification(topic=Topic.CONTROL, subject="the listener is there")
    listening = asyncio.create_task(listen())
    await wait_until(is_heard)
    shop.order(1)
    await send.with_options(connection=shop.connection, queue="mail").enqueue(1)
    await send.with_options(connection=shop.connection, delay_seconds=60).enqueue(2)
    watch = manager.core.parts.producer._commits
    await wait_until(lambda: len(watch._expected) == 2 and all(each.pause > 0.01 for each in watch._expected))
    await manager.backend.notify([Notification(topic=Topic.CONTROL, subject="looked in vain")])
    while (hint := await asyncio.wait_for(heard.get(), 30)).subject != "looked in vain":
        assert hint == sign
    shop.connection.commit()
    hints = {await asyncio.wait_for(heard.get(), 30) for _ in range(2)}
    assert hints == {Notification(topic=Topic.JOBS, subject="mail"), Notification(topic=Topic.SCHEDULES)}
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_an_event_tells_of_what_was_committed_and_never_of_what_was_rolled_back(manager, shop, wait_until):
    send = with_task(manager)
    heard = []
    manager.subscribe(heard.append, JobEnqueued)
    with shop.connection as connection:
        first = await send.with_options(connection=connection).enqueue(1)
        assert heard == []
    await wait_until(lambda: heard)
    await send.with_options(connection=shop.connection).enqueue(2)
    shop.connection.rollback()
    with shop.connection as connection:
        many = await manager.enqueue_many([send.call(3), send.call(4)], connection=connection)
    await wait_until(lambda: len(heard) == 3)
    await manager.close()
    assert [event.job_id for event in heard] == [first, *many]
    assert all(event.is_new and event.task == "shop.send" for event in heard)


async def test_what_was_committed_before_the_close_is_told_of(manager, shop):
    send = with_task(manager)
    heard = []
    manager.subscribe(heard.append, JobEnqueued)
    with shop.connection as connection:
        task_id = await send.with_options(connection=connection).enqueue(1)
    await manager.close()
    assert [event.job_id for event in heard] == [task_id]


def test_a_loop_that_ends_before_the_commit_leaves_no_warning(unopened, shop):
    send = with_task(unopened)
    heard = []
    unopened.subscribe(heard.append, JobEnqueued)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(unopened.open())
        asyncio.run(send.with_options(connection=shop.connection).enqueue(1))
        gc.collect()
        shop.connection.commit()
        asyncio.run(unopened.close())
    assert len(heard) == 1


# A store that is not there yet, whose maker holds up all other writers.


def alone(path):
    """Return a manager whose every wait for another writer would be an error at once."""
    return BackgroundTaskManager(f"sqlite:///{path}?timeout=0.5")


def begin(path):
    """Open a connection, which makes the file, and a transaction that has written."""
    connection = sqlite3.connect(path, timeout=0.01)
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO orders VALUES (1)")
    return connection


async def test_the_first_enqueue_in_a_transaction_makes_the_store_inside_it(path):
    manager = alone(path)
    send = with_task(manager)
    with closing(begin(path)) as connection:
        first = await send.with_options(connection=connection).enqueue(1)
        second = await manager.enqueue_task(send, args=[2], connection=connection)
        third, fourth = await manager.enqueue_many([send.call(3), send.call(4)], connection=connection)
        connection.commit()
    assert len({first, second, third, fourth}) == 4
    assert await args_of_all(manager) == [1, 2, 3, 4]
    await manager.close()


def test_the_first_enqueue_in_a_transaction_makes_the_store_inside_it_without_a_loop(path):
    manager = alone(path)
    send = with_task(manager)
    with closing(begin(path)) as connection:
        for number in (1, 2):
            manager.sync.enqueue_task(send, args=[number], connection=connection)
        connection.commit()
    assert manager.sync.list_tasks().total_entries == 2
    manager.sync.close()


async def test_a_store_that_is_rolled_back_with_its_transaction_is_made_by_the_next(path):
    manager = alone(path)
    send = with_task(manager)
    with closing(sqlite3.connect(path, timeout=0.01)) as connection:
        for number in (1, 2):
            await send.with_options(connection=connection).enqueue(number)
            assert connection.in_transaction
            (connection.rollback if number == 1 else connection.commit)()
    assert await args_of_all(manager) == [2]
    await manager.close()


async def test_a_rolled_back_store_is_made_by_an_enqueue_without_a_transaction(path):
    manager = alone(path)
    send = with_task(manager)
    with closing(begin(path)) as connection:
        await send.with_options(connection=connection).enqueue(1)
        connection.rollback()
    await send.enqueue(2)
    assert await args_of_all(manager) == [2]
    await manager.close()


async def test_the_job_of_a_store_that_was_made_in_a_transaction_is_told_of_at_its_commit(path, wait_until):
    manager, heard = alone(path), []
    manager.subscribe(heard.append, JobEnqueued)
    send = with_task(manager)
    with closing(sqlite3.connect(path)) as connection:
        task_id = await send.with_options(connection=connection).enqueue(1)
        connection.commit()
    await wait_until(lambda: [event.job_id for event in heard] == [task_id])
    await manager.close()


async def test_an_older_store_is_named_at_once_and_the_callers_transaction_goes_on(path):
    async with alone(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM deeper_migration WHERE name LIKE '0003%'")
        connection.commit()
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO orders VALUES (1)")
        manager = alone(path)
        send = with_task(manager)
        with pytest.raises(SchemaError, match=rf"'{path}' lacks the migrations 0003.*deeper migrate"):
            await send.with_options(connection=connection).enqueue(1)
        with pytest.raises(SchemaError, match=rf"'{path}' lacks the migrations 0003.*deeper migrate"):
            await manager.open()
        connection.commit()
        assert connection.execute("SELECT id FROM orders").fetchall() == [(1,)]
    await manager.close()


async def test_a_writer_who_waits_in_vain_is_told_that_the_transaction_may_be_its_own(path):
    manager = alone(path)
    with closing(begin(path)), pytest.raises(BackendUnavailableError, match=r"this program's own.*connection="):
        await with_task(manager).enqueue(1)
    await manager.close()


def test_a_session_of_sqlalchemy_makes_the_store_in_its_transaction(path):
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    manager = alone(path)
    send = with_task(manager)
    with Session(engine) as session, session.begin():
        session.execute(sqlalchemy.text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))
        session.execute(sqlalchemy.text("INSERT INTO orders VALUES (1)"))
        connection = session.connection().connection.driver_connection
        manager.sync.enqueue_task(send, args=[1], connection=connection)
    assert manager.sync.list_tasks().total_entries == 1
    manager.sync.close()
    engine.dispose()
