"""The SQLite store keeps the promises of the protocol."""

import sqlite3
from contextlib import asynccontextmanager, closing

import pytest

from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.testing import BackendConformance, SharedConformance, Transaction, TransactionConformance


class TestSQLiteBackend(TransactionConformance, SharedConformance, BackendConformance):
    @pytest.fixture
    async def backend(self, tmp_path):
        backend = SQLiteBackend(tmp_path / "tasks.db")
        await backend.open()
        yield backend
        await backend.close()

    @pytest.fixture
    async def other(self, backend, tmp_path):
        other = SQLiteBackend(tmp_path / "tasks.db")
        await other.open()
        yield other
        await other.close()

    @pytest.fixture(params=["begun by hand", "begun by the insert"])
    def begin(self, request, tmp_path):
        @asynccontextmanager
        async def begin():
            with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
                if request.param == "begun by hand":
                    connection.execute("BEGIN")

                async def commit():
                    connection.commit()

                async def rollback():
                    connection.rollback()

                yield Transaction(connection=connection, commit=commit, rollback=rollback)

        return begin
