"""The PostgreSQL store keeps the promises of the protocol."""

import inspect
from contextlib import asynccontextmanager

import psycopg
import pytest

from callers import KINDS
from deeper_tasks.backends.postgres import Address, Pooler, PostgresBackend
from deeper_tasks.testing import (
    BackendConformance,
    JobTransactionConformance,
    Ledger,
    SharedConformance,
    Transaction,
    TransactionConformance,
)


@pytest.fixture
def database_url(store_url):
    return store_url


@pytest.fixture
def address(database_url):
    return Address(conninfo=database_url)


@pytest.fixture
async def backend(address):
    backend = PostgresBackend(address)
    await backend.open()
    yield backend
    await backend.close()


def transactions_of(kind, url):
    @asynccontextmanager
    async def begin():
        async with KINDS[kind](url) as caller:
            yield Transaction(connection=caller.connection, commit=caller.commit, rollback=caller.rollback)

    return begin


async def done(answer):
    """Wait for what an async connection gives; a blocking one has done it."""
    return await answer if inspect.isawaitable(answer) else answer


class TestPostgresBackend(JobTransactionConformance, TransactionConformance, SharedConformance, BackendConformance):
    @pytest.fixture
    async def other(self, backend, address):
        other = PostgresBackend(address)
        await other.open()
        yield other
        await other.close()

    @pytest.fixture
    def begin(self, database_url):
        return transactions_of("psycopg", database_url)

    @pytest.fixture
    def ledger(self, database_url):
        async def write(connection, entry):
            await done(connection.execute("INSERT INTO app.ledger (entry) VALUES (%s)", (entry,)))

        async def commit(connection):
            await done(connection.commit())

        async def read():
            with psycopg.connect(database_url) as connection:
                return [entry for (entry,) in connection.execute("SELECT entry FROM app.ledger ORDER BY number")]

        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA app")
            connection.execute("CREATE TABLE app.ledger (number integer GENERATED ALWAYS AS IDENTITY, entry text)")
            yield Ledger(write=write, commit=commit, read=read)
            connection.execute("DROP SCHEMA app CASCADE")


class TestPostgresTransactions(TransactionConformance):
    """By every other kind of connection, of which the rest of the suite needs none."""

    @pytest.fixture(params=[kind for kind in KINDS if kind != "psycopg"])
    def begin(self, request, database_url, monkeypatch):
        # These tests are async, where Django refuses to block.
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        return transactions_of(request.param, database_url)


HOSTILE = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "check_function_bodies": "off",
    "client_encoding": "LATIN1",
    "default_toast_compression": "pglz",
    "default_transaction_deferrable": "on",
    "extra_float_digits": "-15",
    "lc_messages": "C",
    "plpgsql.extra_errors": "all",
    "plpgsql.variable_conflict": "use_variable",
    "quote_all_identifiers": "on",
    "search_path": "elsewhere",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "enable_indexscan": "off",
}
"""What no statement may depend on, whoever opens the session."""


class TestPostgresBackendElsewhere(TestPostgresBackend):
    """In another schema, in sessions that begin with the settings that fit us least, and that set nothing."""

    @pytest.fixture
    def address(self, make_store):
        return make_store("elsewhere", settings=HOSTILE, schema="user", pooler=Pooler.TRANSACTION).empty()

    @pytest.fixture
    def database_url(self, address):
        return address.conninfo
