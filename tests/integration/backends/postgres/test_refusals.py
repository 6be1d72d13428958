"""Refusals: each error of ours, provoked by the real server, says what happened and what to do."""

import asyncio
import os
import random

import psycopg
import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import (
    BackendError,
    BackendUnavailableError,
    DuplicateJobError,
    SchemaError,
)
from deeper_tasks.testing.conformance.builders import new_job


@pytest.fixture
async def backend(database_url):
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def execute(database_url):
    """Run a statement in the database as its owner."""

    def execute(statement):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(statement)

    return execute


@pytest.fixture
def reopened(backend):
    """Return a way to have the store connect anew."""

    async def reopened():
        await backend.close()
        await backend.open()
        return backend

    return reopened


@pytest.fixture
def role(execute):
    """The name of a new user, who is dropped after the test."""
    name = f"r_{os.getpid()}"
    execute(f"CREATE ROLE {name} LOGIN")
    yield name
    execute(f"DROP OWNED BY {name}")
    execute(f"DROP ROLE {name}")


async def test_an_id_with_other_content_is_a_duplicate(backend):
    job = new_job()
    await backend.insert([job])
    with pytest.raises(
        DuplicateJobError, match=f"a job with the id '{job.request_id}' exists already, with another task or"
    ):
        await backend.insert([new_job(request_id=job.request_id, arguments="[[1],{}]")])


async def test_a_schema_that_was_dropped_under_an_open_store_is_missed(backend, execute):
    execute("DROP SCHEMA deeper CASCADE")
    with pytest.raises(SchemaError, match=r"lacks a part of the schema.*run 'deeper migrate'"):
        await backend.insert([new_job()])
    with pytest.raises(SchemaError, match=r"lacks a part of the schema.*run 'deeper migrate'"):
        await backend.queues()


async def test_a_function_that_is_missing_is_part_of_the_schema_too(backend, execute):
    execute("DROP FUNCTION deeper.beat")
    with pytest.raises(SchemaError, match=r"function .*beat.* does not exist; run 'deeper migrate'"):
        await backend.beat("node")


async def test_a_right_that_is_missing_is_named(backend, execute, role, database_url):
    execute(f"GRANT USAGE ON SCHEMA deeper TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA deeper TO {role}")
    reader = PostgresBackend(Address(conninfo=f"{database_url}?options=-c%20role%3D{role}"))
    await reader.open()
    assert (await reader.find(JobQuery())).total == 0
    words = r"denied for table (\w+); the user '\w+' lacks INSERT, UPDATE, DELETE of deeper\.\1; as the owner '\w+': "
    with pytest.raises(BackendError, match=words):
        await reader.insert([new_job()])
    await reader.close()


async def test_a_server_that_takes_too_long_is_unavailable(backend, database_url):
    hasty = PostgresBackend(Address(conninfo=f"{database_url}?options=-c%20statement_timeout%3D50"))
    await hasty.open()
    job = new_job()
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE deeper.move, deeper.job")
        with pytest.raises(BackendUnavailableError, match=r"did not finish in 10 s: .* statement timeout") as raised:
            await hasty.insert([job])
        assert raised.value.request_ids == (job.request_id,)
    await hasty.close()


async def test_a_server_that_only_reads_is_unavailable_for_a_write(execute, reopened, database_url):
    execute(f"ALTER DATABASE {database_url.rpartition('/')[2]} SET default_transaction_read_only = on")
    backend = await reopened()
    assert (await backend.find(JobQuery())).total == 0
    with pytest.raises(BackendUnavailableError, match=r"cannot execute .* in a read-only transaction"):
        await backend.insert([new_job()])


async def test_a_server_that_takes_no_more_connections_is_unavailable(backend, execute, role, database_url):
    execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
    turned_away = PostgresBackend(Address(conninfo=database_url.replace("postgres@", f"{role}@", 1)))
    with pytest.raises(BackendUnavailableError, match=r"no connection to .* too many connections for role"):
        await turned_away.open()


async def test_a_database_that_is_not_there_is_unavailable(postgres):
    with pytest.raises(BackendUnavailableError, match=r'no connection to .*database "nowhere" does not exist'):
        await PostgresBackend(Address(conninfo=postgres.url_of("nowhere"))).open()


async def test_what_no_store_could_take_is_an_error_with_the_words_of_the_server(backend):
    key = random.Random(1).randbytes(5_000).hex()
    with pytest.raises(BackendError, match="refused: index row requires") as raised:
        await backend.insert([new_job(unique=Unique(key=key))])
    assert not isinstance(raised.value, BackendUnavailableError)
    assert isinstance(raised.value.__cause__, psycopg.Error)
    assert (await backend.find(JobQuery())).total == 0


async def test_a_deadlock_is_tried_again(backend, execute):
    execute("INSERT INTO deeper.queue VALUES ('a'), ('b')")
    meeting, tries = asyncio.Barrier(2), []

    async def lock(first, second):
        async def operation(transaction):
            statement = "SELECT FROM queue WHERE name = %(name)s FOR UPDATE"
            tries.append(first)
            await transaction.rows(statement, {"name": first})
            if len(tries) <= 2:
                await meeting.wait()
            await transaction.rows(statement, {"name": second})
            return first

        return await backend._database.run(operation)

    assert await asyncio.gather(lock("a", "b"), lock("b", "a")) == ["a", "b"]
    assert len(tries) == 3


async def test_a_lost_race_that_is_never_won_ends(backend):
    tries = []

    async def operation(transaction):
        tries.append(1)
        await transaction.rows("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = 'serialization_failure'; END $$")

    with pytest.raises(BackendUnavailableError, match="is not available: again"):
        await backend._database.run(operation)
    assert len(tries) == 10
    assert await backend.queues() == []


@pytest.mark.parametrize("name", ["default_transaction_isolation", "array_nulls"])
async def test_sessions_of_a_pooler_that_begin_wrongly_are_refused(name, backend, execute, database_url):
    value = {"default_transaction_isolation": "repeatable read", "array_nulls": "off"}[name]
    execute(f"ALTER DATABASE {database_url.rpartition('/')[2]} SET {name} = '{value}'")
    pooled = PostgresBackend(Address(conninfo=database_url, pooler="transaction"))
    with pytest.raises(
        SchemaError, match=rf"{name} = '{value}', and through a pooler .*ALTER ROLE postgres SET {name}"
    ):
        await pooled.open()
    direct = PostgresBackend(Address(conninfo=f"{database_url}?options=-c%20{name}%3D{value.replace(' ', '%5C%20')}"))
    await direct.open()
    rows = await direct._database.call(f"SELECT current_setting('{name}')", {})
    assert rows[0][0] in {"read committed", "on"}
    await direct.close()
