"""Enqueueing inside the caller's own transaction, in several processes and after a fork."""

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest

from deeper_tasks import BackgroundTaskManager


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.db"


# Forks.

FORK = """
import asyncio, os, sqlite3, sys
from deeper_tasks import BackgroundTaskManager
manager = BackgroundTaskManager(f"sqlite:///{sys.argv[1]}")
@manager.task(name="shop.send")
async def send(number: int): ...
def order(number):
    connection = sqlite3.connect(sys.argv[1], timeout=20)
    with connection:
        connection.execute("INSERT INTO orders VALUES (?)", (number,))
        manager.sync.enqueue_task(send, args=[number], connection=connection)
    try:
        with connection:
            connection.execute("INSERT INTO orders VALUES (?)", (1000 + number,))
            asyncio.run(send.with_options(connection=connection).enqueue(1000 + number))
            raise RuntimeError
    except RuntimeError:
        pass
    connection.close()
manager.sync.open()
order(0)
children = []
for number in range(1, 4):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            order(number)
            manager.sync.close()
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
order(9)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
print(sorted(entry.args[0] for entry in manager.sync.list_tasks().entries))
manager.sync.close()
"""


def test_parent_and_forked_children_each_join_transactions_of_their_own(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(path)]
    done = subprocess.run(command, check=True, timeout=50, capture_output=True, text=True)
    with closing(sqlite3.connect(path)) as connection:
        orders = [row[0] for row in connection.execute("SELECT id FROM orders ORDER BY id")]
    assert done.stdout.strip() == str(orders) == "[0, 1, 2, 3, 9]"


# A store that is not there yet, whose maker holds up all other writers.


def test_processes_that_make_the_store_in_their_transactions_take_turns(path):
    code = """
        import sqlite3, sys
        from contextlib import closing
        from deeper_tasks import BackgroundTaskManager
        manager = BackgroundTaskManager(f"sqlite:///{sys.argv[1]}")
        send = manager.task(name="shop.send")(lambda number: None)
        with closing(sqlite3.connect(sys.argv[1], timeout=30)) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            manager.sync.enqueue_task(send, args=[1], connection=connection)
        manager.sync.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    children = [subprocess.Popen(command) for _ in range(3)]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    # Every wait for another writer would be an error at once.
    manager = BackgroundTaskManager(f"sqlite:///{path}?timeout=0.5")
    assert manager.sync.list_tasks().total_entries == 3
    manager.sync.close()
