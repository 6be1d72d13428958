"""The two threads of a store: what gathers shares a commit, and each operation stands or falls by itself."""

import asyncio
import sqlite3
import threading

import pytest

from deeper_tasks.backends.protocol import JobFilter, JobQuery
from deeper_tasks.backends.sqlite.database import Database, Synchronous
from deeper_tasks.backends.sqlite.reader import Reader
from deeper_tasks.backends.sqlite.writer import Writer
from deeper_tasks.errors import BackendError, BackendUnavailableError, DuplicateJobError
from deeper_tasks.testing.conformance.builders import new_job
from interruptions import interrupt

INSERT = "INSERT INTO word (text) VALUES (?)"


@pytest.fixture
async def writer(database):
    writer = Writer(database, name="writer")
    writer.start()
    await writer.run(lambda connection: connection.execute("CREATE TABLE word (text TEXT NOT NULL UNIQUE)"))
    yield writer
    writer.close()


@pytest.fixture
async def reader(database, writer):
    reader = Reader(database, name="reader")
    reader.start()
    yield reader
    reader.close()


def add(*words):
    def operation(connection):
        for word in words:
            connection.execute(INSERT, (word,))
        return words

    return operation


class Gate:
    """An operation that holds the writing thread until it is opened, so that others gather behind it."""

    def __init__(self):
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, connection):
        self.entered.set()
        assert self.opened.wait(10)


async def gather_behind_a_gate(writer, *operations, undurable=()):
    gate = Gate()
    first = asyncio.ensure_future(writer.run(gate))
    await asyncio.to_thread(gate.entered.wait, 10)
    others = [
        asyncio.ensure_future(writer.run(operation, is_durable=operation not in undurable)) for operation in operations
    ]
    await asyncio.sleep(0)
    gate.opened.set()
    await first
    return await asyncio.gather(*others, return_exceptions=True)


async def test_what_is_answered_is_committed(writer, query):
    await writer.run(add("one"))
    assert query("SELECT text FROM word") == [("one",)]


async def test_what_is_not_answered_yet_is_not_seen_by_others(writer, query):
    gate = Gate()

    def add_and_wait(connection):
        connection.execute(INSERT, ("one",))
        gate(connection)

    adding = asyncio.ensure_future(writer.run(add_and_wait))
    await asyncio.to_thread(gate.entered.wait, 10)
    assert query("SELECT text FROM word") == []
    gate.opened.set()
    await adding
    assert query("SELECT text FROM word") == [("one",)]


async def test_what_gathered_during_a_commit_shares_the_next(writer, query):
    commits = []

    def note_commits(connection):
        connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)

    await writer.run(note_commits)
    commits.clear()
    answers = await gather_behind_a_gate(writer, *(add(str(number)) for number in range(20)))
    assert answers == [(str(number),) for number in range(20)]
    assert len(commits) == 2
    assert len(query("SELECT text FROM word")) == 20


async def test_one_commit_carries_no_more_than_so_many(writer):
    commits = []

    def note_commits(connection):
        connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)

    await writer.run(note_commits)
    commits.clear()
    await gather_behind_a_gate(writer, *(add(str(number)) for number in range(130)))
    assert len(commits) == 1 + 3


async def test_an_operation_that_fails_leaves_nothing_and_harms_no_neighbour(writer, query):
    answers = await gather_behind_a_gate(writer, add("a", "b"), add("c", "c"), add("d"))
    assert answers[0] == ("a", "b")
    assert isinstance(answers[1], BackendError)
    assert answers[2] == ("d",)
    assert query("SELECT text FROM word ORDER BY text") == [("a",), ("b",), ("d",)]


async def test_an_error_of_the_operation_itself_is_raised_as_it_is(writer, query):
    async def fail():
        def operation(connection):
            connection.execute(INSERT, ("a",))
            raise DuplicateJobError("no")

        await writer.run(operation)

    with pytest.raises(DuplicateJobError, match="no"):
        await fail()
    assert query("SELECT text FROM word") == []


async def test_an_error_of_sqlite_is_told_in_our_words_and_chained_to_nothing_else(writer, path):
    await writer.run(add("a"))
    with pytest.raises(BackendError, match="refused a statement: UNIQUE") as raised:
        await writer.run(add("a"))
    assert str(path) in str(raised.value)
    with pytest.raises(BackendUnavailableError, match="no such table"):
        await writer.run(lambda connection: connection.execute("SELECT * FROM missing"))


async def test_operations_are_done_in_the_order_they_came(writer, query):
    await asyncio.gather(*(writer.run(add(str(number))) for number in range(50)))
    assert [row[0] for row in query("SELECT text FROM word ORDER BY rowid")] == [str(number) for number in range(50)]


async def test_an_answer_that_nobody_awaits_any_more_is_dropped(writer, query):
    gate = Gate()
    abandoned = asyncio.ensure_future(writer.run(gate))
    await asyncio.to_thread(gate.entered.wait, 10)
    abandoned.cancel()
    gate.opened.set()
    await writer.run(add("after"))
    assert abandoned.cancelled()
    assert query("SELECT text FROM word") == [("after",)]


def test_a_loop_that_was_closed_meanwhile_harms_no_other(database, query):
    writer = Writer(database, name="writer")
    writer.start()
    gate = Gate()
    loop = asyncio.new_event_loop()

    async def leave():
        asking = asyncio.ensure_future(writer.run(gate))
        await asyncio.to_thread(gate.entered.wait, 10)
        asking.cancel()

    loop.run_until_complete(leave())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gate.opened.set()
    asyncio.run(writer.run(lambda connection: connection.execute("CREATE TABLE word (text TEXT)")))
    asyncio.run(writer.run(add("another loop")))
    writer.close()
    assert query("SELECT text FROM word") == [("another loop",)]


async def test_a_read_sees_one_state_of_the_file(writer, reader):
    await writer.run(add("one"))
    gate = Gate()

    def read_twice(connection):
        before = connection.execute("SELECT count(*) FROM word").fetchone()[0]
        gate(connection)
        return before, connection.execute("SELECT count(*) FROM word").fetchone()[0]

    reading = asyncio.ensure_future(reader.run(read_twice))
    await asyncio.to_thread(gate.entered.wait, 10)
    await writer.run(add("two"))
    gate.opened.set()
    assert await reading == (1, 1)


async def test_the_reading_connection_cannot_write(reader):
    with pytest.raises(BackendError, match="read-only"):
        await reader.run(add("one"))


async def test_a_closed_thread_refuses_politely(writer, reader):
    writer.close()
    reader.close()
    for thread in (writer, reader):
        with pytest.raises(BackendUnavailableError, match="closed"):
            await thread.run(add("one"))
        thread.close()


async def test_closing_waits_for_what_is_under_way(writer, query):
    gate = Gate()
    holding = asyncio.ensure_future(writer.run(gate))
    await asyncio.to_thread(gate.entered.wait, 10)
    adding = asyncio.ensure_future(writer.run(add("late")))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(asyncio.to_thread(writer.close))
    gate.opened.set()
    await asyncio.gather(holding, adding, closing)
    assert query("SELECT text FROM word") == [("late",)]


async def test_a_writer_waits_for_another_programs_lock_and_then_says_so(path):
    writer = Writer(Database(path=path, timeout=0.05), name="writer")
    writer.start()
    await writer.run(lambda connection: connection.execute("CREATE TABLE word (text TEXT)"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(BackendUnavailableError, match=r"was locked for longer than 50 ms"):
            await writer.run(add("one"))
        other.execute("ROLLBACK")
        assert await writer.run(add("two")) == ("two",)
    finally:
        other.close()
        writer.close()


async def test_a_connection_that_can_only_read_is_replaced_for_the_next_write(writer, query):
    # As one that was opened while the file was read-only, which stays so when it is not any more.
    await writer.run(lambda connection: connection.execute("PRAGMA query_only = ON"), in_transaction=False)
    with pytest.raises(BackendUnavailableError, match="read-only"):
        await writer.run(add("refused"))
    await writer.run(add("written"))
    assert query("SELECT text FROM word") == [("written",)]


async def test_a_full_disk_is_told_and_the_store_goes_on_when_there_is_room(writer, query):
    def shrink(connection):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await writer.run(shrink)
    with pytest.raises(BackendUnavailableError, match="the disk is full: nothing was written"):
        await writer.run(add("x" * 100_000))
    await writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 100000"))
    await writer.run(add("small"))
    assert query("SELECT text FROM word") == [("small",)]
    assert query("PRAGMA integrity_check") == [("ok",)]


async def test_a_full_disk_fails_the_neighbours_of_the_same_commit_rather_than_lose_them(writer, query):
    def shrink(connection):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await writer.run(shrink)
    answers = await gather_behind_a_gate(writer, add("small"), add("x" * 100_000), add("other"))
    written = {row[0] for row in query("SELECT text FROM word")}
    for answer, word in zip(answers, ("small", "x" * 100_000, "other"), strict=True):
        assert isinstance(answer, BackendUnavailableError) == (word not in written)
    assert isinstance(answers[1], BackendUnavailableError)


async def test_an_insert_that_could_not_be_written_names_its_ids(backend):
    job = new_job()
    await backend.close()
    with pytest.raises(BackendUnavailableError, match="not open") as raised:
        await backend.insert([job])
    assert raised.value.request_ids == (job.request_id,)


async def test_inserts_that_fail_together_each_have_an_error_with_their_own_ids(backend, path):
    jobs = [new_job() for _ in range(20)]
    path.unlink()
    errors = await asyncio.gather(*(backend.insert([job]) for job in jobs), return_exceptions=True)
    assert [error.request_ids for error in errors] == [(job.request_id,) for job in jobs]
    assert all("was removed" in str(error) for error in errors)


async def test_a_closed_store_says_how_to_open_it_and_can_be_opened_again(backend):
    await backend.insert([new_job()])
    await backend.close()
    await backend.close()
    with pytest.raises(BackendUnavailableError, match=r"manager\.open\(\)"):
        await backend.find(JobQuery())
    await backend.open()
    assert (await backend.find(JobQuery(filter=JobFilter()))).total == 1


FULL, NORMAL = 2, 1


def synchronous(connection):
    return connection.execute("PRAGMA synchronous").fetchone()[0]


async def test_what_need_not_be_durable_waits_for_no_disk_and_what_must_be_does(writer):
    assert await writer.run(synchronous) == FULL
    assert await writer.run(synchronous, is_durable=False) == NORMAL
    assert await writer.run(synchronous) == FULL


async def test_one_that_must_be_durable_makes_its_neighbours_durable(writer):
    def other(connection):
        return synchronous(connection)

    assert await gather_behind_a_gate(writer, synchronous, other, undurable=[other]) == [FULL, FULL]


async def test_a_new_connection_is_durable_again(writer):
    await writer.run(synchronous, is_durable=False)
    writer.hold()
    writer.go_on()
    assert await writer.run(synchronous) == FULL
    assert await writer.run(synchronous, is_durable=False) == NORMAL


async def test_where_the_url_says_normal_nothing_waits_for_the_disk(path):
    writer = Writer(Database(path=path, synchronous=Synchronous.NORMAL), name="writer")
    writer.start()
    assert [await writer.run(synchronous), await writer.run(synchronous, is_durable=False)] == [NORMAL, NORMAL]
    writer.close()


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
async def test_no_operation_is_lost_by_an_exception_in_the_thread_that_waits_for_it(writer, reader, query, kind):
    await reader.run(lambda connection: connection.execute("SELECT 1").fetchone())
    for thread in ("writer", "reader"):
        interrupt(thread, kind)
    async with asyncio.timeout(10):
        await writer.run(add("one"))
        assert await reader.run(lambda connection: connection.execute("SELECT count(*) FROM word").fetchone()[0]) == 1
    assert query("SELECT text FROM word") == [("one",)]


async def test_what_an_exception_in_the_thread_cuts_off_fails_and_is_rolled_back(writer, query):
    def cut_off(connection):
        connection.execute(INSERT, ("cut off",))
        raise KeyboardInterrupt

    async with asyncio.timeout(10):
        with pytest.raises(BackendUnavailableError, match="interrupted"):
            await writer.run(cut_off)
        await writer.run(add("two"))
    assert query("SELECT text FROM word") == [("two",)]


async def test_a_store_whose_threads_were_interrupted_closes(writer, reader):
    for thread in ("writer", "reader"):
        interrupt(thread, KeyboardInterrupt)
    async with asyncio.timeout(10):
        await asyncio.to_thread(writer.close)
        await asyncio.to_thread(reader.close)
