"""The SQLite store keeps the promises of the protocol."""

import pytest

from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.testing.conformance import BackendConformance


class TestSQLiteBackend(BackendConformance):
    @pytest.fixture
    async def backend(self, tmp_path):
        backend = SQLiteBackend(tmp_path / "tasks.db")
        await backend.open()
        yield backend
        await backend.close()
