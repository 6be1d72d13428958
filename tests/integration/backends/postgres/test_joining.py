"""Inserting into a caller's own transaction, by each kind of connection: what survives, what is refused, who waits."""

import asyncio
import re
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from uuid import uuid4

import asyncpg
import psycopg
import pytest
from django.db import connections, transaction
from psycopg import ClientCursor, RawCursor
from psycopg.rows import dict_row
from psycopg.types.string import StrBinaryDumper
from psycopg_pool import ConnectionPool
from sqlalchemy import ForeignKey, create_engine, event, inspect, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from callers import ASYNC, BLOCKING, KINDS, django_database, through
from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.domain.job import JobOptions
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import BackendError, BackendUnavailableError, DuplicateJobError, InvalidOptionError
from deeper_tasks.testing.conformance.builders import MINUTE, join, new_job, put, settle, state_of, take_all

KEY = Unique(key="given:one")

PATIENCE = 60.0


@pytest.fixture
async def backend(database_url):
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture(autouse=True)
def django_in_async_tests(monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")


@pytest.fixture(params=KINDS)
def open_kind(request, database_url):
    return lambda: KINDS[request.param](database_url)


@pytest.fixture
def orders(database_url, backend):
    """An application's own table, and what is in it."""

    def rows():
        with psycopg.connect(database_url) as connection:
            return [row[0] for row in connection.execute("SELECT id FROM orders ORDER BY id")]

    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    return rows


@pytest.fixture
def is_waiting(postgres, database_url):
    """Return whether somebody waits for a lock in this test's database."""
    name = database_url.rpartition("/")[2]

    def is_waiting():
        return postgres.execute(
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s", name
        )

    return is_waiting


async def total(backend):
    return (await backend.find(JobQuery())).total


# What the caller writes and what is enqueued are one.


async def test_what_the_caller_writes_and_its_job_are_committed_together(backend, orders, open_kind):
    async with open_kind() as caller:
        await caller.execute("INSERT INTO orders VALUES (1)")
        await backend.insert([new_job()], connection=caller.connection)
        await caller.execute("INSERT INTO orders VALUES (2)")
        assert (orders(), await total(backend)) == ([], 0)
        await caller.commit()
    assert (orders(), await total(backend)) == ([1, 2], 1)


async def test_what_the_caller_writes_and_its_job_are_rolled_back_together(backend, orders, open_kind):
    async with open_kind() as caller:
        await backend.insert([new_job()], connection=caller.connection)
        await caller.execute("INSERT INTO orders VALUES (1)")
        await caller.rollback()
    assert (orders(), await total(backend)) == ([], 0)


async def test_a_savepoint_of_the_callers_takes_the_job_back_with_it(backend, orders, open_kind):
    async with open_kind() as caller:
        await caller.execute("INSERT INTO orders VALUES (1)")
        await caller.execute("SAVEPOINT mine")
        await backend.insert([new_job()], connection=caller.connection)
        await caller.execute("ROLLBACK TO SAVEPOINT mine")
        await caller.commit()
    assert (orders(), await total(backend)) == ([1], 0)


async def test_a_refused_insert_keeps_what_the_caller_wrote(backend, orders, open_kind):
    known = new_job()
    await backend.insert([known])
    async with open_kind() as caller:
        await caller.execute("INSERT INTO orders VALUES (1)")
        with pytest.raises(DuplicateJobError, match=rf"the id '{known.request_id}' exists already"):
            await backend.insert(
                [new_job(), new_job(request_id=known.request_id, arguments="[[],{}]")], connection=caller.connection
            )
        await caller.execute("INSERT INTO orders VALUES (2)")
        await caller.commit()
    assert (orders(), await total(backend)) == ([1, 2], 1)


async def test_any_text_survives(backend, open_kind):
    odd = ":id %s %(id)s %% ? $1 $$ '' \"{},\\ \n\t \x01 NULL ::text \\:x é 🜁 \u202e"
    document = '[["\\u0000 %s :id \\\\ 🜁"],{"a":"\'; DROP TABLE job; --"}]'
    job = new_job(
        task=f"shop.{odd}",
        arguments=document,
        queue=odd,
        options=JobOptions(tags=(odd, "\0"), meta={"\0": odd}),
        unique=Unique(key=odd),
    )
    async with open_kind() as caller:
        await backend.insert([job], connection=caller.connection)
        await caller.commit()
    there = await backend.get(job.request_id)
    assert (there.task, there.arguments, there.queue, there.unique_key) == (f"shop.{odd}", document, odd, odd)
    assert (there.options.tags, there.options.meta) == ((odd, "\0"), {"\0": odd})


# What is the caller's own stays as it is.


@pytest.mark.parametrize("factory", [psycopg.Cursor, ClientCursor, RawCursor])
async def test_the_callers_factories_do_not_matter(backend, database_url, factory):
    known, first = new_job(), new_job()
    await backend.insert([known])
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        connection.cursor_factory = factory
        connection.adapters.register_dumper(str, StrBinaryDumper)
        answers = await backend.insert([known, first], connection=connection)
    assert [(answer.id, answer.is_new) for answer in answers] == [(known.request_id, False), (first.request_id, True)]
    assert await total(backend) == 2


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "UTF8", "LATIN1"])
async def test_the_callers_encoding_does_not_matter_where_it_knows_the_characters(backend, database_url, encoding):
    known, job = new_job(), new_job(task="shop.plain", queue="plain")
    await backend.insert([known])
    with psycopg.connect(database_url, client_encoding=encoding) as connection:
        answers = await backend.insert([known, job], connection=connection)
    assert [answer.id for answer in answers] == [known.request_id, job.request_id]


async def test_characters_that_the_connection_cannot_send_are_told_of(backend, database_url):
    with psycopg.connect(database_url, client_encoding="LATIN1") as connection:
        with pytest.raises(InvalidOptionError, match="connect with client_encoding=UTF8"):
            await backend.insert([new_job(task="shop.🜁")], connection=connection)
        await backend.insert([new_job(task="shop.é")], connection=connection)
    assert await total(backend) == 1


async def test_the_callers_settings_do_not_matter(backend, open_kind):
    async with open_kind() as caller:
        await caller.execute("SET LOCAL search_path TO pg_catalog")
        await caller.execute("SET LOCAL DateStyle TO 'SQL, DMY'")
        await caller.execute("SET LOCAL TimeZone TO 'Pacific/Chatham'")
        await caller.execute("SET LOCAL standard_conforming_strings TO off")
        await backend.insert([job := new_job(arguments='[["\\\\"],{}]')], connection=caller.connection)
        await caller.commit()
    assert (await backend.get(job.request_id)).arguments == '[["\\\\"],{}]'


async def test_a_transaction_that_began_in_vain_is_ended(backend, database_url):
    known = new_job()
    await backend.insert([known])
    other = new_job(request_id=known.request_id, arguments="[[],{}]")
    with psycopg.connect(database_url) as connection:
        with pytest.raises(DuplicateJobError):
            await backend.insert([other], connection=connection)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    engine = create_engine(through("psycopg", database_url), poolclass=NullPool)
    with engine.connect() as connection, Session(engine) as session:
        for each in (connection, session):
            with pytest.raises(DuplicateJobError):
                await backend.insert([other], connection=each)
            with each.begin():
                await backend.insert([new_job()], connection=each)
    assert await total(backend) == 3


# SQLAlchemy.


class Model(DeclarativeBase):
    """The tables of a shop."""


class Order(Model):
    """An order of the shop's."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    after: Mapped[int | None] = mapped_column(ForeignKey("orders.id"))


@pytest.fixture
def engine(database_url):
    engine = create_engine(through("psycopg", database_url), poolclass=NullPool)
    Model.metadata.create_all(engine)
    yield engine
    engine.dispose()


async def test_an_object_and_its_job_are_committed_together_and_rolled_back_together(backend, engine, orders_there):
    with Session(engine) as session, session.begin():
        session.add(order := Order())
        session.flush()
        await backend.insert([new_job(arguments=f"[[{order.id}],{{}}]")], connection=session)
    with Session(engine) as session:
        session.add(Order())
        await backend.insert([new_job()], connection=session)
        session.rollback()
    assert (orders_there(), await total(backend)) == (1, 1)


async def test_an_insert_flushes_nothing_and_expires_nothing_of_a_session(backend, engine, orders_there):
    known = new_job()
    await backend.insert([known])
    with Session(engine) as session:
        session.add(kept := Order())
        session.flush()
        kept_id = kept.id
        session.add(bad := Order(after=-1))
        await backend.insert([new_job()], connection=session)
        with pytest.raises(DuplicateJobError):
            await backend.insert([new_job(request_id=known.request_id, arguments="[[],{}]")], connection=session)
        assert bad in session.new
        assert "id" not in inspect(kept).expired_attributes
        session.expunge(bad)
        session.commit()
        assert kept.id == kept_id
    assert (orders_there(), await total(backend)) == (1, 2)


@pytest.fixture
def orders_there(engine):
    def count():
        with engine.connect() as connection:
            return connection.execute(text("SELECT count(*) FROM orders")).scalar_one()

    return count


async def test_an_async_session_over_asyncpg_takes_the_job_back_though_it_is_its_first_statement(backend, database_url):
    engine = create_async_engine(through("asyncpg", database_url), poolclass=NullPool)
    async with AsyncSession(engine) as session:
        await backend.insert([new_job()], connection=session)
        await session.rollback()
    assert await total(backend) == 0
    async with async_sessionmaker(engine).begin() as session:
        await backend.insert([new_job()], connection=session)
    assert await total(backend) == 1


async def test_a_session_inside_run_sync_takes_part(backend, database_url):
    engine = create_async_engine(through("asyncpg", database_url), poolclass=NullPool)

    def insert(session):
        with pytest.raises(StopIteration):
            backend.insert([new_job()], connection=session).send(None)

    async with AsyncSession(engine) as session:
        await session.run_sync(insert)
        assert await total(backend) == 0
        await session.commit()
    assert await total(backend) == 1


@pytest.mark.parametrize("option", ["stream_results", "yield_per"])
async def test_a_connection_that_streams_takes_part(backend, engine, database_url, option):
    known = [new_job(), new_job()]
    with engine.connect() as connection:
        connection.execution_options(**{option: 1})
        await backend.insert(known, connection=connection)
        connection.commit()
    for_async = create_async_engine(through("asyncpg", database_url), poolclass=NullPool)
    async with for_async.connect() as connection:
        await connection.execution_options(**{option: 1})
        answers = await backend.insert([*known, new_job()], connection=connection)
        assert [answer.is_new for answer in answers] == [False, False, True]
        await connection.commit()
    assert await total(backend) == 3


async def test_a_session_that_does_not_begin_by_itself_is_told_to(backend, engine):
    with Session(engine, autobegin=False) as session:
        with pytest.raises(InvalidOptionError, match=r"'connection' cannot be used: .*session\.begin\(\)"):
            await backend.insert([new_job()], connection=session)
        with session.begin():
            await backend.insert([new_job()], connection=session)
    assert await total(backend) == 1


async def test_an_async_connection_that_was_not_awaited_is_refused(backend, database_url):
    connection = create_async_engine(through("asyncpg", database_url)).connect()
    with pytest.raises(InvalidOptionError, match=r"'connection' cannot be used: .*not been started"):
        await backend.insert([new_job()], connection=connection)


async def test_a_session_joined_to_an_outer_transaction_is_undone_with_that(backend, engine):
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            await backend.insert([new_job()], connection=session)
            session.commit()
        outer.rollback()
    assert await total(backend) == 0


# What cannot be used is named, with the way out.


@pytest.mark.parametrize("thing", ["postgresql://", object(), 3, psycopg], ids=["str", "object", "int", "module"])
async def test_what_is_no_connection_is_refused_by_its_type(backend, thing):
    with pytest.raises(InvalidOptionError, match=rf"cannot be of the type {type(thing).__qualname__}: give"):
        await backend.insert([new_job()], connection=thing)


async def test_what_makes_connections_is_told_what_to_give_instead(backend, database_url, engine):
    with ConnectionPool(database_url, open=False) as pool, closing(sqlite3.connect(":memory:")) as other:
        async with asyncpg.create_pool(database_url, min_size=0) as async_pool:
            for thing, words in (
                (engine, "type sqlalchemy.engine.base.Engine: give the Session or the Connection"),
                (create_async_engine(through("asyncpg", database_url)), "give the AsyncSession"),
                (sessionmaker(engine), "give the Session"),
                (async_sessionmaker(), "give the AsyncSession"),
                (pool, r"'with pool\.connection\(\)'"),
                (async_pool, r"'async with pool\.acquire\(\)'"),
                (other, "type sqlite3.Connection: the jobs are in PostgreSQL"),
            ):
                with pytest.raises(InvalidOptionError, match=words):
                    await backend.insert([new_job()], connection=thing)


async def test_the_older_psycopg_is_told_of_the_newer(backend):
    connection = type("connection", (), {"__module__": "psycopg2.extensions"})()
    with pytest.raises(InvalidOptionError, match=r"psycopg2 is not supported: give a psycopg \(3\) connection"):
        await backend.insert([new_job()], connection=connection)


async def test_without_an_open_transaction_the_way_out_is_that_of_the_library(backend, database_url):
    async with _in_autocommit(database_url) as opened:
        for connection, way_out in opened:
            with pytest.raises(InvalidOptionError, match=rf"without an open transaction: .*{way_out}.*connection= out"):
                await backend.insert([new_job()], connection=connection)
    assert await total(backend) == 0


@asynccontextmanager
async def _in_autocommit(url):
    blocking = create_engine(through("psycopg", url), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    for_async = create_async_engine(through("asyncpg", url), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with (
        psycopg.connect(url, autocommit=True) as of_psycopg,
        blocking.connect() as connection,
        Session(blocking) as session,
        django_database(url) as alias,
    ):
        async with (
            await psycopg.AsyncConnection.connect(url, autocommit=True) as of_async_psycopg,
            for_async.connect() as async_connection,
            AsyncSession(for_async) as async_session,
            asyncpg.create_pool(url, min_size=0) as pool,
            pool.acquire() as of_asyncpg,
        ):
            yield [
                (of_psycopg, r"'with connection\.transaction\(\):'"),
                (of_async_psycopg, r"'async with connection\.transaction\(\):'"),
                (connection, "AUTOCOMMIT"),
                (session, "AUTOCOMMIT"),
                (async_connection, "AUTOCOMMIT"),
                (async_session, "AUTOCOMMIT"),
                (of_asyncpg, r"'async with connection\.transaction\(\):'"),
                (connections[alias], r"transaction\.atomic\(\)"),
            ]


async def test_in_autocommit_a_transaction_that_was_begun_is_enough(backend, database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        with connection.transaction():
            await backend.insert([new_job()], connection=connection)
        connection.execute("BEGIN")
        await backend.insert([new_job()], connection=connection)
        connection.execute("COMMIT")
    async with asyncpg.create_pool(database_url, min_size=0) as pool, pool.acquire() as connection:
        await connection.execute("BEGIN")
        await backend.insert([new_job()], connection=connection)
        await connection.execute("COMMIT")
    assert await total(backend) == 3


async def test_django_without_autocommit_begins_by_itself(backend, database_url):
    with django_database(database_url) as alias:
        transaction.set_autocommit(False, using=alias)
        await backend.insert([new_job()], connection=connections[alias])
        assert await total(backend) == 0
        transaction.commit(using=alias)
    assert await total(backend) == 1


@asynccontextmanager
async def _closed(url):
    blocking = create_engine(through("psycopg", url), poolclass=NullPool)
    for_async = create_async_engine(through("asyncpg", url), poolclass=NullPool)
    with psycopg.connect(url) as of_psycopg, blocking.connect() as connection:
        pass
    async with await psycopg.AsyncConnection.connect(url) as of_async_psycopg, for_async.connect() as async_connection:
        pass
    of_asyncpg = await asyncpg.connect(url)
    await of_asyncpg.close()
    yield [of_psycopg, of_async_psycopg, connection, async_connection, of_asyncpg]


async def test_a_closed_connection_is_refused(backend, database_url):
    async with _closed(database_url) as closed:
        for connection in closed:
            with pytest.raises(InvalidOptionError, match="'connection' cannot be closed: give the connection"):
                await backend.insert([new_job()], connection=connection)


async def test_a_connection_that_its_pool_has_back_is_refused(backend, database_url):
    async with asyncpg.create_pool(database_url, min_size=0) as pool:
        async with pool.acquire() as connection:
            pass
        with pytest.raises(InvalidOptionError, match=r"cannot be .*(closed|released)"):
            await backend.insert([new_job()], connection=connection)


async def test_a_transaction_that_has_failed_is_refused(backend, open_kind):
    async with open_kind() as caller:
        await caller.execute("SAVEPOINT mine")
        with pytest.raises(Exception, match="division by zero"):
            await caller.execute("SELECT 1 / 0")
        with pytest.raises(InvalidOptionError, match="a transaction that has failed: roll it back"):
            await backend.insert([new_job()], connection=caller.connection)
        await caller.execute("ROLLBACK TO SAVEPOINT mine")
        await backend.insert([new_job()], connection=caller.connection)
        await caller.commit()
    assert await total(backend) == 1


async def test_a_session_whose_flush_has_failed_is_refused(backend, engine):
    with Session(engine) as session:
        session.add(Order(after=-1))
        with pytest.raises(Exception, match="foreign key"):
            session.flush()
        with pytest.raises(InvalidOptionError, match=r"'connection' cannot be used: .*rolled back"):
            await backend.insert([new_job()], connection=session)
        session.rollback()
        await backend.insert([new_job()], connection=session)
        session.commit()
    assert await total(backend) == 1


async def test_a_block_of_djangos_that_is_to_be_rolled_back_is_refused(backend, database_url):
    with django_database(database_url) as alias, transaction.atomic(using=alias):
        transaction.set_rollback(True, using=alias)
        with pytest.raises(InvalidOptionError, match=r"'connection' cannot be used: .*atomic"):
            await backend.insert([new_job()], connection=connections[alias])


async def test_a_refused_insert_does_not_make_django_roll_back_the_block(backend, orders, database_url):
    known = new_job()
    await backend.insert([known])
    with django_database(database_url) as alias:
        with transaction.atomic(using=alias):
            with pytest.raises(DuplicateJobError):
                await backend.insert(
                    [new_job(request_id=known.request_id, arguments="[[],{}]")], connection=connections[alias]
                )
            connections[alias].cursor().execute("INSERT INTO orders VALUES (1)")
        assert orders() == [1]


async def test_django_refuses_to_block_a_loop_and_is_heard(backend, database_url, monkeypatch):
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")
    with django_database(database_url) as alias:
        with pytest.raises(InvalidOptionError, match=r"'connection' cannot be used: .*async context"):
            await backend.insert([new_job()], connection=connections[alias])
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")


async def test_a_connection_of_another_thread_of_djangos_is_refused(backend, database_url):
    with django_database(database_url) as alias:
        theirs = await asyncio.to_thread(lambda: connections[alias])
        with pytest.raises(InvalidOptionError, match=r"'connection' cannot be used: .*thread"):
            await backend.insert([new_job()], connection=theirs)
        theirs.inc_thread_sharing()
        theirs.close()


async def test_a_read_only_transaction_is_refused(backend, open_kind):
    async with open_kind() as caller:
        await caller.execute("SET TRANSACTION READ ONLY")
        with pytest.raises(InvalidOptionError, match="a read-only transaction: begin it READ WRITE"):
            await backend.insert([new_job()], connection=caller.connection)
    assert await total(backend) == 0


async def test_a_database_without_our_schema_is_another_database(backend, postgres):
    with postgres.new_database() as url:
        for kind in KINDS.values():
            async with kind(url) as caller:
                with pytest.raises(InvalidOptionError, match="another database: the jobs are in 'postgresql:"):
                    await backend.insert([new_job()], connection=caller.connection)
                await caller.execute("SELECT 1")


async def test_a_database_with_another_store_is_another_database(backend, postgres):
    with postgres.new_database() as url:
        other = PostgresBackend(Address(conninfo=url))
        await other.open()
        for kind in KINDS.values():
            async with kind(url) as caller:
                with pytest.raises(InvalidOptionError, match="another database: the jobs are in 'postgresql:"):
                    await backend.insert([new_job()], connection=caller.connection)
                await caller.commit()
        assert await total(other) == 0
        await other.close()


async def test_a_store_in_another_schema_of_the_database_is_another(backend, database_url):
    other = PostgresBackend(Address(conninfo=database_url, schema="jobs"))
    await other.open()
    with psycopg.connect(database_url) as connection:
        await other.insert([new_job()], connection=connection)
        await other.insert([new_job()], connection=connection)
        await backend.insert([new_job()], connection=connection)
    assert (await total(other), await total(backend)) == (2, 1)
    await other.close()


async def test_databases_of_other_kinds_are_refused_by_their_name(backend):
    lite = create_engine("sqlite://")
    with Session(lite) as session, pytest.raises(InvalidOptionError, match="be one to sqlite: "):
        await backend.insert([new_job()], connection=session)
    lite.dispose()
    async with AsyncSession(create_async_engine("postgresql+asyncpg://127.0.0.1:1/none")) as session:
        with pytest.raises(BackendUnavailableError):
            await backend.insert([new_job()], connection=session)


async def test_djangos_connection_to_a_database_of_another_kind_is_refused_by_its_name(backend, database_url):
    with django_database(database_url):
        connections.settings["lite"] = connections.configure_settings(
            {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        )["default"]
        with pytest.raises(InvalidOptionError, match="be one to sqlite: "):
            await backend.insert([new_job()], connection=connections["lite"])
        connections["lite"].close()
        del connections["lite"], connections.settings["lite"]


async def test_a_user_without_the_right_is_told_what_to_grant(backend, database_url, postgres):
    role = f"clerk_{uuid4().hex}"
    with psycopg.connect(database_url) as connection:
        connection.execute(f"CREATE ROLE {role}")
        connection.execute(f"SET LOCAL ROLE {role}")
        words = r"may not enqueue in .*permission denied.*; as the owner of the schema: (GRANT USAGE ON SCHEMA .*)"
        with pytest.raises(BackendError, match=words) as caught:
            await backend.insert([new_job()], connection=connection)
        connection.execute("RESET ROLE")
        connection.execute(re.search(words, str(caught.value))[1].replace("…", role))
        connection.execute(f"SET LOCAL ROLE {role}")
        await backend.insert([new_job(unique=KEY)], connection=connection)
        connection.rollback()


async def test_a_pipeline_is_refused(backend, database_url):
    with psycopg.connect(database_url) as connection:
        with connection.pipeline(), pytest.raises(InvalidOptionError, match="in pipeline mode: enqueue before"):
            await backend.insert([new_job()], connection=connection)
        await backend.insert([new_job()], connection=connection)
    assert await total(backend) == 1


async def test_a_connection_that_is_busy_is_refused(backend, database_url, is_waiting, wait_until):
    with psycopg.connect(database_url) as first:
        first.execute("SELECT pg_advisory_xact_lock(1)")
        async with ASYNC["asyncpg"](database_url) as caller:
            busy = asyncio.create_task(caller.execute("SELECT pg_advisory_xact_lock(1)"))
            await wait_until(is_waiting)
            with pytest.raises(InvalidOptionError, match=r"'connection' cannot be used: .*another operation"):
                await backend.insert([new_job()], connection=caller.connection)
            first.commit()
            await busy
            await backend.insert([new_job()], connection=caller.connection)
            await caller.commit()
    assert await total(backend) == 1


async def test_a_store_that_is_not_open_takes_no_connection(database_url):
    with psycopg.connect(database_url) as connection, pytest.raises(BackendUnavailableError, match="not open"):
        await PostgresBackend(Address(conninfo=database_url)).insert([new_job()], connection=connection)


async def test_a_connection_that_is_lost_is_told_with_the_ids(backend, open_kind, postgres):
    job = new_job()
    async with open_kind() as caller:
        await caller.execute("SELECT set_config('application_name', 'doomed', false)")
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doomed'")
        with pytest.raises(BackendUnavailableError) as caught:
            await backend.insert([job], connection=caller.connection)
        assert caught.value.request_ids == (job.request_id,)
    assert await total(backend) == 0


# A connection that blocks needs no loop, and an async one cannot do without.


@pytest.mark.parametrize("kind", BLOCKING)
def test_a_connection_that_blocks_never_suspends(database_url, kind):
    backend = PostgresBackend(Address(conninfo=database_url))
    asyncio.run(backend.open())

    async def opened():
        async with BLOCKING[kind](database_url) as caller:
            yield caller

    callers = opened()
    caller = _run(callers.__anext__())
    answers = _run(backend.insert([new_job(), new_job()], connection=caller.connection))
    assert [answer.is_new for answer in answers] == [True, True]
    _run(caller.commit())
    _run(callers.aclose())
    assert asyncio.run(total(backend)) == 2
    asyncio.run(backend.close())


def _run(coroutine):
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


@pytest.mark.parametrize("kind", ASYNC)
async def test_an_async_connection_suspends_before_anything_is_done(backend, database_url, kind):
    async with ASYNC[kind](database_url) as caller:
        coroutine = backend.insert([new_job()], connection=caller.connection)
        coroutine.send(None)
        coroutine.close()
        await backend.insert([new_job()], connection=caller.connection)
        await caller.commit()
    assert await total(backend) == 1


# Others go on; a rival for a unique key waits.


async def test_an_open_transaction_holds_up_no_worker_and_no_other_enqueue(backend, open_kind):
    before = await put(backend)
    async with open_kind() as caller:
        await backend.insert([hidden := new_job(unique=KEY)], connection=caller.connection)
        async with asyncio.timeout(PATIENCE):
            node = await join(backend)
            after = await put(backend, unique=Unique(key="given:other"))
            jobs = await take_all(backend, node)
            assert {job.id for job in jobs} == {before, after}
            await settle(backend, jobs)
            await backend.promote()
            assert (await backend.statistics()).queues["default"].by_state[State.COMPLETED] == 2
            assert await backend.beat(node)
        await caller.commit()
    assert await state_of(backend, hidden.request_id) is State.PENDING
    assert [job.id for job in await take_all(backend, node)] == [hidden.request_id]


@pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled back"])
async def test_a_rival_for_a_key_waits_and_learns_who_has_it(backend, open_kind, is_waiting, wait_until, commits):
    held, wanted = new_job(unique=KEY), new_job(unique=KEY)
    async with open_kind() as caller:
        await backend.insert([held], connection=caller.connection)
        rival = asyncio.create_task(backend.insert([wanted]))
        await wait_until(is_waiting)
        assert not rival.done()
        await (caller.commit() if commits else caller.rollback())
    [answer] = await rival
    assert (answer.id, answer.is_new) == ((held.request_id, False) if commits else (wanted.request_id, True))


@pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled back"])
async def test_an_insert_in_a_transaction_waits_for_the_key_of_another(
    backend, database_url, is_waiting, wait_until, commits
):
    held, wanted = new_job(unique=KEY), new_job(unique=KEY)
    with psycopg.connect(database_url) as first:
        await backend.insert([held], connection=first)
        async with ASYNC["SQLAlchemy AsyncSession, asyncpg"](database_url) as caller:
            rival = asyncio.create_task(backend.insert([wanted], connection=caller.connection))
            await wait_until(is_waiting)
            first.commit() if commits else first.rollback()
            [answer] = await rival
            await caller.commit()
    assert (answer.id, answer.is_new) == ((held.request_id, False) if commits else (wanted.request_id, True))
    assert await total(backend) == 1


async def test_a_callers_own_patience_is_told_with_the_way_out(backend, database_url, open_kind):
    with psycopg.connect(database_url) as first:
        await backend.insert([new_job(unique=KEY)], connection=first)
        async with open_kind() as caller:
            for patience in ("lock_timeout", "statement_timeout"):
                await caller.execute("SAVEPOINT mine")
                await caller.execute(f"SET LOCAL {patience} TO '50ms'")
                with pytest.raises(BackendUnavailableError, match="another transaction may hold its unique key"):
                    await backend.insert([new_job(unique=KEY)], connection=caller.connection)
                await caller.execute("ROLLBACK TO SAVEPOINT mine")
            await backend.insert([new_job()], connection=caller.connection)
            await caller.commit()
    assert await total(backend) == 2


async def test_an_insert_that_is_cancelled_leaves_the_transaction_usable(backend, database_url, is_waiting, wait_until):
    with psycopg.connect(database_url) as first:
        await backend.insert([new_job(unique=KEY)], connection=first)
        for kind in ("psycopg async", "asyncpg"):
            async with ASYNC[kind](database_url) as caller:
                rival = asyncio.create_task(backend.insert([new_job(unique=KEY)], connection=caller.connection))
                await wait_until(is_waiting)
                rival.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await rival
                await backend.insert([new_job()], connection=caller.connection)
                await caller.commit()
    assert await total(backend) == 3


async def test_a_deadlock_of_two_transactions_is_told_with_the_way_out(backend, database_url, is_waiting, wait_until):
    one, two = Unique(key="given:one"), Unique(key="given:two")
    async with ASYNC["asyncpg"](database_url) as first, ASYNC["psycopg async"](database_url) as second:
        for caller in (first, second):
            await caller.execute("SET LOCAL deadlock_timeout TO '20ms'")
        await backend.insert([new_job(unique=one)], connection=first.connection)
        await backend.insert([new_job(unique=two)], connection=second.connection)
        answers = [
            asyncio.create_task(backend.insert([new_job(unique=key)], connection=caller.connection))
            for key, caller in ((two, first), (one, second))
        ]
        done, waiting = await asyncio.wait(answers, timeout=PATIENCE, return_when=asyncio.FIRST_EXCEPTION)
        [beaten] = done
        with pytest.raises(
            BackendUnavailableError, match=r"wait for each other.*roll back and run the whole transaction again"
        ):
            await beaten
        loser, winner = (first, second) if beaten is answers[0] else (second, first)
        await loser.rollback()
        [other] = waiting
        [answer] = await other
        assert answer.is_new
        await winner.commit()
    assert await total(backend) == 2


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_an_older_snapshot_cannot_see_who_was_quicker_and_says_so(backend, open_kind, level):
    job = new_job()
    async with open_kind() as caller:
        await caller.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        await caller.execute("SELECT count(*) FROM deeper.job")
        await backend.insert([job])
        with pytest.raises(
            BackendUnavailableError, match=r"changed the same rows first .*run the whole transaction again"
        ) as caught:
            await backend.insert([job], connection=caller.connection)
        assert caught.value.request_ids == (job.request_id,)
        await backend.insert([new_job()], connection=caller.connection)
        await caller.rollback()
    assert await total(backend) == 1


async def test_a_lost_race_is_run_again_inside_the_savepoint(backend, orders, database_url, engine):
    """The key's holder lets go of it between two statements of the first try: here the server says so, once."""
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE SEQUENCE tries")
        connection.execute(
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF nextval('public.tries') < 3 THEN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END IF; "
            "RETURN NEW; END $$"
        )
        connection.execute("CREATE TRIGGER lose BEFORE INSERT ON deeper.job FOR EACH ROW EXECUTE FUNCTION lose()")
    seen = []
    with Session(engine) as session:
        event.listen(session.connection(), "before_cursor_execute", lambda *args: seen.append(args[2]))
        session.execute(text("INSERT INTO orders VALUES (1)"))
        await backend.insert([new_job(), new_job()], connection=session)
        session.commit()
    assert sum(statement.startswith("ROLLBACK TO") for statement in seen) == 2
    assert (orders(), await total(backend)) == ([1], 2)


# Hints.


async def test_hints_leave_with_the_commit_and_not_without(backend, open_kind, database_url):
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN deeper_deeper")
        async with open_kind() as caller:
            await backend.insert([new_job(queue="lost")], connection=caller.connection)
            await caller.rollback()
        async with open_kind() as caller:
            await backend.insert([new_job(queue="a:b"), new_job(queue="a:b")], connection=caller.connection)
            await backend.insert([new_job(delay=MINUTE)], connection=caller.connection)
            assert list(listener.notifies(timeout=0)) == []
            await caller.commit()
        heard = {each.payload for each in listener.notifies(timeout=PATIENCE, stop_after=2)}
    assert heard == {"jobs:a:b", "schedules:"}


# Processes.

KILLED = """
import asyncio, os, signal, sys
import psycopg
from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.testing.conformance.builders import new_job
async def main():
    backend = PostgresBackend(Address(conninfo=sys.argv[1]))
    await backend.open()
    connection = psycopg.connect(sys.argv[1])
    connection.execute("INSERT INTO orders (id) VALUES (1)")
    await backend.insert([new_job()], connection=connection)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_nothing_is_left_of_a_process_that_was_killed_before_its_commit(backend, orders, database_url):
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", KILLED, database_url], timeout=PATIENCE, check=False
    )
    assert ended.returncode == -9
    assert (orders(), await total(backend)) == ([], 0)
