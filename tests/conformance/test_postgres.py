"""The PostgreSQL store keeps the promises of the protocol."""

from contextlib import asynccontextmanager

import pytest

from callers import KINDS
from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.testing import BackendConformance, SharedConformance, Transaction, TransactionConformance


@pytest.fixture
async def backend(database_url):
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.open()
    yield backend
    await backend.close()


def transactions_of(kind, url):
    @asynccontextmanager
    async def begin():
        async with KINDS[kind](url) as caller:
            yield Transaction(connection=caller.connection, commit=caller.commit, rollback=caller.rollback)

    return begin


class TestPostgresBackend(TransactionConformance, SharedConformance, BackendConformance):
    @pytest.fixture
    async def other(self, backend, database_url):
        other = PostgresBackend(Address(conninfo=database_url))
        await other.open()
        yield other
        await other.close()

    @pytest.fixture
    def begin(self, database_url):
        return transactions_of("psycopg", database_url)


class TestPostgresTransactions(TransactionConformance):
    """By every other kind of connection, of which the rest of the suite needs none."""

    @pytest.fixture(params=[kind for kind in KINDS if kind != "psycopg"])
    def begin(self, request, database_url, monkeypatch):
        # These tests are async, where Django refuses to block.
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        return transactions_of(request.param, database_url)
