"""The PostgreSQL store keeps the promises of the protocol."""

import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.testing import BackendConformance, SharedConformance


class TestPostgresBackend(SharedConformance, BackendConformance):
    @pytest.fixture
    def database_url(self, store_url):
        return store_url

    @pytest.fixture
    def address(self, database_url):
        return Address(conninfo=database_url)

    @pytest.fixture
    async def backend(self, address):
        backend = PostgresBackend(address)
        await backend.open()
        yield backend
        await backend.close()

    @pytest.fixture
    async def other(self, backend, address):
        other = PostgresBackend(address)
        await other.open()
        yield other
        await other.close()
