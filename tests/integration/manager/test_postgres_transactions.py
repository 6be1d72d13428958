"""Enqueueing inside the caller's own PostgreSQL transaction, through the manager: by each library, in any code."""

import asyncio

import asyncpg
import psycopg
import pytest
from django.db import connections, models, transaction
from sqlalchemy import create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from callers import ASYNC, BLOCKING, KINDS, django_database, through
from deeper_tasks import BackgroundTaskManager
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendUnavailableError, DuplicateJobError, InvalidOptionError, JobNotFoundError
from deeper_tasks.integrations.events import JobEnqueued, StoreMade

PATIENCE = 60
NEVER = 3_600.0


class Model(DeclarativeBase):
    """The tables of a shop."""


class Order(Model):
    """An order of the shop's."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def unopened(store_url):
    """A manager whose worker would not poll before the test is over."""
    manager = BackgroundTaskManager(store_url, poll_interval_seconds=NEVER)

    @manager.task(name="shop.send")
    async def send(number: int):
        return number

    manager.send = send
    return manager


@pytest.fixture
async def manager(unopened):
    async with unopened:
        yield unopened
        unopened.sync.close()


@pytest.fixture
def store_url(database_url):
    """A database of this test's own: the tests make tables."""
    return database_url


async def count(manager):
    return (await manager.list_tasks()).total_entries


async def test_every_way_to_enqueue_takes_part(manager, store_url):
    send = manager.send
    async with await psycopg.AsyncConnection.connect(store_url) as connection:
        first = await manager.enqueue_task(send, args=[1], connection=connection)
        later = await manager.schedule_task(send, args=[2], scheduled_at=60, connection=connection)
        bound = await send.with_options(connection=connection, priority=-1).enqueue(3)
        many = await manager.enqueue_many([send.call(4), send.call(5)], connection=connection)
        carried = await manager.enqueue_many([send.with_options(connection=connection).call(6)])
        assert all(each.is_new for each in (first, later, bound, *many, *carried))
        assert await count(manager) == 0
    assert await count(manager) == 6
    assert (await manager.get_task_status(later)).status is State.SCHEDULED
    assert (await manager.get_task_status(bound)).priority == -1


@pytest.mark.parametrize("kind", ["psycopg", "SQLAlchemy AsyncSession, asyncpg", "asyncpg"])
async def test_a_worker_that_does_not_poll_starts_a_job_when_it_is_committed(manager, store_url, working, kind):
    async with working(manager), KINDS[kind](store_url) as caller:
        lost = await manager.send.with_options(connection=caller.connection).enqueue(1)
        await caller.rollback()
    async with working(manager), KINDS[kind](store_url) as caller:
        task_id = await manager.send.with_options(connection=caller.connection).enqueue(2)
        await caller.commit()
        assert await manager.result(task_id, timeout=PATIENCE) == 2
    with pytest.raises(JobNotFoundError):
        await manager.get_task_status(lost)


async def test_an_open_transaction_holds_up_no_worker_and_no_other_enqueue(manager, store_url, working):
    async with working(manager), ASYNC["asyncpg"](store_url) as caller:
        held = await manager.send.with_options(connection=caller.connection).enqueue(1)
        for number in range(2, 5):
            assert await manager.result(await manager.send.enqueue(number), timeout=PATIENCE) == number
        assert (await manager.cancel_task(await manager.send.with_options(delay_seconds=60).enqueue(5))) == "cancelled"
        with pytest.raises(JobNotFoundError):
            await manager.get_task_status(held)
        await caller.commit()
        assert await manager.result(held, timeout=PATIENCE) == 1


async def test_a_commit_is_looked_for_only_where_somebody_wants_to_hear_of_it(manager, store_url, wait_until):
    heard = []
    async with ASYNC["asyncpg"](store_url) as caller:
        await manager.send.with_options(connection=caller.connection).enqueue(1)
        await caller.commit()
    assert not manager.core.parts.producer._commits._is_used
    manager.subscribe(heard.append, JobEnqueued)
    async with ASYNC["asyncpg"](store_url) as caller:
        task_id = await manager.send.with_options(connection=caller.connection).enqueue(2)
        assert heard == []
        await caller.commit()
        await wait_until(lambda: heard)
    async with ASYNC["asyncpg"](store_url) as caller:
        await manager.send.with_options(connection=caller.connection).enqueue(3)
        await caller.rollback()
    await manager.close()
    assert [event.job_id for event in heard] == [task_id]


# Blocking code.


@pytest.mark.parametrize("kind", BLOCKING)
def test_the_blocking_facade_takes_part_in_transactions_of_its_callers_thread(unopened, store_url, kind):
    async def opened():
        async with BLOCKING[kind](store_url) as caller:
            yield caller

    with unopened.sync as sync:
        for ending in ("rollback", "commit"):
            callers = opened()
            caller = _run(callers.__anext__())
            sync.enqueue_task(unopened.send, args=[1], connection=caller.connection)
            sync.schedule_task(unopened.send, args=[2], scheduled_at=60, connection=caller.connection)
            sync.enqueue_many([unopened.send.call(3)], connection=caller.connection)
            assert sync.list_tasks().total_entries == 0
            _run(getattr(caller, ending)())
            _run(callers.aclose())
        assert sync.list_tasks().total_entries == 3


def _run(coroutine):
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


@pytest.mark.parametrize("kind", ASYNC)
async def test_an_async_connection_is_for_async_code(manager, store_url, kind):
    async with ASYNC[kind](store_url) as caller:
        with pytest.raises(InvalidOptionError, match=r"an async connection here: await the method of the manager"):
            manager.sync.enqueue_task(manager.send, args=[1], connection=caller.connection)
        await manager.enqueue_task(manager.send, args=[1], connection=caller.connection)
        await caller.commit()
    assert await count(manager) == 1


def test_an_async_connection_is_for_async_code_outside_of_any_loop_too(unopened, store_url):
    async def connect():
        return await asyncpg.connect(store_url)

    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(connect())
    with unopened.sync as sync, pytest.raises(InvalidOptionError, match=r"an async connection here"):
        sync.enqueue_task(unopened.send, args=[1], connection=connection)
    loop.run_until_complete(connection.close())
    loop.close()


def test_a_model_of_djangos_and_its_job_are_committed_together_and_rolled_back_together(unopened, store_url):
    with django_database(store_url) as alias, unopened.sync as sync:

        class Purchase(models.Model):
            item = models.TextField()

            class Meta:
                app_label = "shop"

            def __str__(self):
                return self.item

        with connections[alias].schema_editor() as editor:
            editor.create_model(Purchase)
        purchases = Purchase.objects.using(alias)

        def sell(item, *, fails=False):
            with transaction.atomic(using=alias):
                purchase = purchases.create(item=item)
                sync.enqueue_task(unopened.send, args=[purchase.pk], connection=connections[alias])
                if fails:
                    raise RuntimeError("sold out")
            return purchase.pk

        lamp = sell("lamp")
        with pytest.raises(RuntimeError, match="sold out"):
            sell("chair", fails=True)
        with transaction.atomic(using=alias):
            table = sell("table")
            with pytest.raises(RuntimeError, match="sold out"):
                sell("shelf", fails=True)

        assert [each.item for each in purchases.order_by("pk")] == ["lamp", "table"]
        assert sorted(list(entry.args) for entry in sync.list_tasks().entries) == [[lamp], [table]]


async def test_an_object_of_sqlalchemys_and_its_job_are_committed_together_and_rolled_back_together(manager, store_url):
    blocking = create_engine(through("psycopg", store_url), poolclass=NullPool)
    Model.metadata.create_all(blocking)

    def sell(*, fails):
        with Session(blocking) as session, session.begin():
            session.add(order := Order())
            session.flush()
            manager.sync.enqueue_task(manager.send, args=[order.id], connection=session)
            if fails:
                raise RuntimeError("sold out")

    sell(fails=False)
    with pytest.raises(RuntimeError, match="sold out"):
        sell(fails=True)
    engine = create_async_engine(through("asyncpg", store_url), poolclass=NullPool)
    async with AsyncSession(engine) as session:
        session.add(order := Order())
        await session.flush()
        await manager.enqueue_task(manager.send, args=[order.id], connection=session)
        await session.commit()
        session.add(order := Order())
        await session.flush()
        await manager.enqueue_task(manager.send, args=[order.id], connection=session)
        await session.rollback()
        assert await session.scalar(select(func.count()).select_from(Order)) == 2
    assert await count(manager) == 2


async def test_an_id_that_is_taken_leaves_the_transaction_usable(manager, store_url):
    taken = await manager.send.enqueue(1)
    async with await psycopg.AsyncConnection.connect(store_url) as connection:
        with pytest.raises(DuplicateJobError):
            await manager.enqueue_task(manager.send, args=[2], task_id=taken, connection=connection)
        again = await manager.enqueue_task(manager.send, args=[1], task_id=taken, connection=connection)
        assert (again, again.is_new) == (taken, False)
        await manager.enqueue_task(manager.send, args=[2], connection=connection)
    assert await count(manager) == 2


# A store that is not there yet.


async def test_a_new_store_is_told_of_by_the_manager_that_made_it(store_url):
    heard = []
    for _ in range(2):
        manager = BackgroundTaskManager(store_url)
        manager.subscribe(heard.append, StoreMade)
        async with manager:
            pass
    assert heard == [StoreMade(place=store_url, url=store_url)]


async def test_the_first_enqueue_in_a_transaction_makes_the_store_beside_it(unopened, store_url):
    async with await psycopg.AsyncConnection.connect(store_url) as connection:
        await connection.execute("CREATE TABLE orders (id integer PRIMARY KEY)")
        await unopened.enqueue_task(unopened.send, args=[1], connection=connection)
    assert await count(unopened) == 1
    await unopened.close()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_that_is_older_than_the_store_is_told_so_and_its_next_try_is_fine(unopened, store_url, level):
    engine = create_engine(store_url.replace("postgresql://", "postgresql+psycopg://"), isolation_level=level)
    with Session(engine) as session:
        session.execute(select(1))
        with pytest.raises(
            BackendUnavailableError, match=r"began before the store .* was created.*run the whole transaction again"
        ):
            unopened.sync.enqueue_task(unopened.send, args=[1], connection=session)
        session.rollback()
        unopened.sync.enqueue_task(unopened.send, args=[1], connection=session)
        session.commit()
    assert unopened.sync.list_tasks().total_entries == 1
    unopened.sync.close()
    engine.dispose()


async def test_a_database_that_has_lost_its_schema_is_told_so(manager, store_url):
    async with await psycopg.AsyncConnection.connect(store_url) as connection:
        await connection.execute("DROP SCHEMA deeper CASCADE")
        with pytest.raises(InvalidOptionError, match="has lost its schema: run 'deeper migrate'"):
            await manager.enqueue_task(manager.send, args=[1], connection=connection)
        await connection.rollback()
