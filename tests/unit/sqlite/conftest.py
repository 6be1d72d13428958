"""What the tests of the SQLite store share."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.backends.sqlite.database import Database


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.db"


@pytest.fixture
async def backend(path):
    backend = SQLiteBackend(path, timeout=5)
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def database(path):
    return Database(path=path, timeout=5)


@pytest.fixture
def query(path):
    """Return a look at the file through a connection of its own."""

    def query(statement, *values, file=path):
        with closing(sqlite3.connect(file)) as connection:
            return connection.execute(statement, values).fetchall()

    return query


@pytest.fixture
def program():
    """Return a start of Python code in a process of its own, with pipes; all are ended with the test."""
    running = []

    def program(code, *arguments, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        running.append(process)
        return process

    yield program
    for process in running:
        process.kill()
        process.communicate()
