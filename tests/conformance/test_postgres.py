"""The PostgreSQL store keeps the promises of the protocol."""

import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.testing import BackendConformance, SharedConformance


class TestPostgresBackend(SharedConformance, BackendConformance):
    @pytest.fixture
    async def backend(self, database_url):
        backend = PostgresBackend(Address(conninfo=database_url))
        await backend.open()
        yield backend
        await backend.close()

    @pytest.fixture
    async def other(self, backend, database_url):
        other = PostgresBackend(Address(conninfo=database_url))
        await other.open()
        yield other
        await other.close()
