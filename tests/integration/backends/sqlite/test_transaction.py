"""An insert on the connection of a process that is killed before its commit: nothing is left of it."""

import asyncio
import sqlite3

import pytest

from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.domain.unique import Unique
from deeper_tasks.testing.conformance.builders import new_job

KEY = Unique(key="given:one")


@pytest.fixture
def connect(path):
    """Return an opening of connections of an application, to the store's file unless another is given."""
    opened = []

    def connect(file=path, **options):
        connection = sqlite3.connect(file, **{"timeout": 5, **options})
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
async def orders(backend, connect):
    """A connection to the store's file, with a table of the application's own."""
    connection = connect()
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
    connection.commit()
    return connection


async def total(backend):
    return (await backend.find(JobQuery())).total


# Processes.

KILLED = """
import asyncio, os, signal, sqlite3, sys
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.testing.conformance.builders import new_job
async def main():
    backend = SQLiteBackend(sys.argv[1])
    await backend.open()
    connection = sqlite3.connect(sys.argv[1])
    connection.execute("INSERT INTO orders (id) VALUES (1)")
    await backend.insert([new_job()], connection=connection)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_nothing_is_left_of_a_process_that_was_killed_before_its_commit(backend, orders, path, program):
    assert await asyncio.to_thread(program(KILLED, path).wait, 50) == -9
    assert await total(backend) == 0
    assert orders.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    await backend.insert([new_job()])
