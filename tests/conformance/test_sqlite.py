"""The SQLite store keeps the promises of the protocol."""

import sqlite3
from contextlib import asynccontextmanager, closing

import pytest

from damage import damage_sqlite
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.testing import (
    BackendConformance,
    DamageConformance,
    JobTransactionConformance,
    Ledger,
    SharedConformance,
    Transaction,
    TransactionConformance,
)


class TestSQLiteBackend(
    JobTransactionConformance, TransactionConformance, SharedConformance, DamageConformance, BackendConformance
):
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

    @pytest.fixture
    def damage(self, tmp_path):
        return damage_sqlite(tmp_path / "tasks.db")

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

    @pytest.fixture
    def ledger(self, backend, tmp_path):
        with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
            connection.execute("CREATE TABLE ledger (entry TEXT)")
            connection.commit()

        async def write(connection, entry):
            connection.execute("INSERT INTO ledger VALUES (?)", (entry,))

        async def commit(connection):
            connection.commit()

        async def read():
            with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
                return [entry for (entry,) in connection.execute("SELECT entry FROM ledger ORDER BY rowid")]

        return Ledger(write=write, commit=commit, read=read)
