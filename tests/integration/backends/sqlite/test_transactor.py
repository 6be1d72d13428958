"""Transactions of jobs beside other processes and forks: they wait in turn, and a killed process frees the file."""

import asyncio
import os
import sqlite3
import sys
import threading
from contextlib import closing

import pytest

from deeper_tasks.testing.conformance.builders import join, put_running, settlement

HOLD = """
import asyncio, sys
from deeper_tasks.backends.sqlite import SQLiteBackend

async def hold():
    backend = SQLiteBackend(sys.argv[1])
    await backend.open()
    transaction = await backend.begin(is_async=True)
    transaction.connection.execute("INSERT INTO ledger VALUES ('of another process')")
    print("holding", flush=True)
    sys.stdin.readline()

asyncio.run(hold())
"""


@pytest.fixture
def ledger(path, backend, query):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE ledger (entry TEXT)")
        connection.commit()
    return lambda: [entry for (entry,) in query("SELECT entry FROM ledger ORDER BY rowid")]


def write(transaction, entry):
    transaction.connection.execute("INSERT INTO ledger VALUES (?)", (entry,))


async def test_one_that_waits_for_another_process_leaves_the_line_when_it_is_cancelled(
    path, backend, ledger, program, wait_until
):
    holder = program(HOLD, path)
    assert holder.stdout.readline() == "holding\n"
    waiting = asyncio.create_task(backend.begin(is_async=True))
    threads = backend._threads
    await wait_until(lambda: threads._transactor is not None and threads._transactor._requests.is_empty)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    holder.kill()
    holder.wait()
    transaction = await asyncio.wait_for(backend.begin(is_async=True), 30)
    await transaction.rollback()


async def test_a_killed_process_frees_the_file_and_what_it_wrote_is_gone(path, backend, ledger, program):
    holder = program(HOLD, path)
    assert holder.stdout.readline() == "holding\n"
    holder.kill()
    holder.wait()
    transaction = await asyncio.wait_for(backend.begin(is_async=True), 30)
    write(transaction, "by us")
    await transaction.rollback()
    assert ledger() == []


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="a fork beside threads is a warning there")
async def test_a_fork_waits_for_a_transaction_of_another_thread(backend, ledger):
    job = await put_running(backend, await join(backend))
    transaction = await backend.begin(is_async=False)
    await asyncio.to_thread(write, transaction, "by the thread")
    forking = threading.Thread(target=fork_and_wait)
    forking.start()
    assert await transaction.complete(settlement(job))
    await asyncio.to_thread(forking.join, 30)
    assert not forking.is_alive()
    assert ledger() == ["by the thread"]
    # And all goes on.
    await (await backend.begin(is_async=True)).rollback()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="a fork beside threads is a warning there")
async def test_a_fork_does_not_wait_for_those_that_wait_for_another_process(path, backend, ledger, program, wait_until):
    holder = program(HOLD, path)
    assert holder.stdout.readline() == "holding\n"
    waiting = asyncio.create_task(backend.begin(is_async=True))
    threads = backend._threads
    await wait_until(lambda: threads._transactor is not None and threads._transactor._using.locked())
    await asyncio.to_thread(fork_and_wait)
    assert not waiting.done()
    holder.kill()
    holder.wait()
    await (await asyncio.wait_for(waiting, 30)).rollback()


def fork_and_wait():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
