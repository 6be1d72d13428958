"""The PostgreSQL store keeps the promises of the protocol."""

from contextlib import asynccontextmanager

import pytest

from callers import KINDS, new_ledger
from damage import damage_postgres
from deeper_tasks.backends.postgres import Address, Pooler, PostgresBackend
from deeper_tasks.testing import (
    BackendConformance,
    DamageConformance,
    JobTransactionConformance,
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
        with new_ledger(database_url) as ledger:
            yield ledger


class TestPostgresDamage(DamageConformance):
    """Of which other sessions need none."""

    @pytest.fixture
    def damage(self, database_url):
        return damage_postgres(database_url)


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
    # Its clock changes, and by half an hour.
    "TimeZone": "Australia/Lord_Howe",
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
