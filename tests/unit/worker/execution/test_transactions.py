"""The transactions: whatever stops an attempt before, inside or at the end of its transaction, it ends in one way."""

import asyncio
import contextlib
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta

import pytest

from deeper_tasks import Done, current_job
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.backends.sqlite.job_transaction import SQLiteJobTransaction
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.stop import Stop
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.integrations.events import JobStarted
from deeper_tasks.testing import FaultyBackend
from deeper_tasks.worker.execution.transactions import longest_transaction
from deeper_tasks.worker.settling.attempt_end import PerhapsStored, Stored

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
async def sqlite(tmp_path):
    backend = SQLiteBackend(tmp_path / "tasks.db")
    await backend.open()
    with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
        connection.execute("CREATE TABLE ledger (entry TEXT)")
        connection.commit()
    yield FaultyBackend(backend)
    await backend.close()


@pytest.fixture
async def bench(sqlite, make_bench):
    return await make_bench(sqlite)


@pytest.fixture
def ledger(tmp_path):
    def ledger():
        with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
            return [entry for (entry,) in connection.execute("SELECT entry FROM ledger")]

    return ledger


def write(entry):
    current_job().connection.execute("INSERT INTO ledger VALUES (?)", (entry,))


async def test_a_completion_is_in_the_store_when_the_runner_returns(bench, ledger):
    async def pay():
        write("paid")
        return 42

    job = await bench.claim(bench.task(pay, transactional=True))
    _, running = bench.start(job)
    end = await running
    assert (type(end), end.state) == (Stored, State.COMPLETED)
    settlement = end.settlement
    assert (settlement.end, settlement.result) == (End.COMPLETE, "42")
    there = await bench.backend.get(job.id)
    assert (there.state, there.result) == (State.COMPLETED, "42")
    assert ledger() == ["paid"]


async def test_every_other_end_is_left_to_the_settler(bench, ledger):
    async def pay():
        write("paid")
        raise ValueError("boom")

    job = await bench.claim(bench.task(pay, transactional=True))
    _, running = bench.start(job)
    end = await running
    assert (type(end), end.end) == (Settlement, End.RETRY)
    assert (await bench.backend.get(job.id)).state is State.RUNNING
    assert ledger() == []


class Awkward:
    def __iter__(self):
        raise RuntimeError("odd")

    __str__ = __repr__ = __len__ = __iter__


async def test_a_result_that_raises_while_it_is_encoded_takes_nothing_back(bench, ledger):
    async def pay():
        write("paid")
        return [Awkward()]

    job = await bench.claim(bench.task(pay, transactional=True))
    _, running = bench.start(job)
    assert (await running).state is State.COMPLETED
    assert (await bench.backend.get(job.id)).result_omitted.startswith("the result is not JSON")
    assert ledger() == ["paid"]


@pytest.mark.parametrize("returned", [ValueError("no"), (entry for entry in "ab")], ids=["an error", "a generator"])
async def test_what_is_returned_and_stands_for_a_failure_rolls_back(bench, ledger, returned):
    async def pay():
        write("paid")
        return returned

    settlement = await bench.run(bench.task(pay, transactional=True))
    assert settlement.end is End.RETRY
    assert ledger() == []


async def test_one_that_cannot_be_begun_gives_the_job_back_and_says_so(bench, caplog):
    async def pay():
        pytest.fail("nothing was begun")

    task = bench.task(pay, transactional=True)
    bench.backend.fail("begin")
    settlement = await bench.run(task)
    assert (settlement.end, settlement.delay) == (End.RELEASE, timedelta(seconds=5))
    assert "no transaction could be begun" in caplog.text
    assert not bench.of_kind(JobStarted)


async def test_one_that_cannot_be_begun_as_the_store_is_away_may_start_as_soon_as_that_is_over(bench):
    async def pay():
        pytest.fail("nothing was begun")

    task = bench.task(pay, transactional=True)
    bench.backend.fail("begin", "queues")
    settlement = await bench.run(task)
    assert (settlement.end, settlement.delay) == (End.RELEASE, timedelta(0))


async def test_a_store_without_transactions_fails_the_job_for_everybody_to_see(memory, make_bench):
    bench = await make_bench(memory)

    async def pay():
        pytest.fail("nothing was begun")

    settlement = await bench.run(bench.task(pay, transactional=True))
    assert (settlement.end, settlement.error.kind) == (End.FAIL, "UnsupportedError")


@pytest.mark.parametrize(("stop", "end"), [(Stop.SHUTDOWN, End.RELEASE), (Stop.CANCEL, End.CANCEL), (Stop.LOST, None)])
async def test_one_that_waits_for_its_turn_stops_at_once(bench, sqlite, stop, end):
    async def pay():
        pytest.fail("it was told to stop before")

    job = await bench.claim(bench.task(pay, transactional=True))
    held = await sqlite.begin(is_async=True)
    attempt, running = bench.start(job)
    await bench.clock.settle()
    assert attempt.context is None
    attempt.tell_to_stop(stop, "enough")
    settlement = await asyncio.wait_for(running, 30)
    assert (settlement and settlement.end) == end
    assert held.broken is None
    await held.rollback()


async def test_one_that_expires_while_it_waits_is_not_started(bench, sqlite):
    async def pay():
        pytest.fail("it has expired")

    job = await bench.claim(bench.task(pay, transactional=True), expires_in=timedelta(minutes=1))
    held = await sqlite.begin(is_async=True)
    _, running = bench.start(job)
    await bench.clock.settle()
    bench.clock.now += 120
    await held.rollback()
    settlement = await asyncio.wait_for(running, 30)
    assert (settlement.end, settlement.error.kind) == (End.FAIL, "Expired")


@pytest.mark.parametrize(
    ("stop", "end"),
    [(Stop.SHUTDOWN, End.RELEASE), (Stop.CANCEL, End.CANCEL), (Stop.TIMEOUT, End.RETRY), (Stop.LOST, None)],
)
async def test_a_search_in_a_thread_is_broken_off_and_all_rolled_back(bench, ledger, stop, end):
    searching = threading.Event()

    def search():
        write("paid")
        searching.set()
        current_job().connection.execute(ENDLESS).fetchone()

    job = await bench.claim(bench.task(search, transactional=True))
    attempt, running = bench.start(job)
    await asyncio.to_thread(searching.wait, 30)
    while not running.done():
        # It may just be before the statement, where there is nothing to break off.
        attempt.tell_to_stop(stop, "enough")
        await asyncio.wait((running,), timeout=0.05)
    settlement = running.result()
    assert (settlement and settlement.end) == end
    assert ledger() == []


@pytest.mark.parametrize(
    ("stop", "end"), [(Stop.SHUTDOWN, End.RELEASE), (Stop.CANCEL, End.CANCEL), (Stop.TIMEOUT, End.RETRY)]
)
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_one_that_returns_because_it_was_told_to_stop_is_rolled_back(bench, ledger, stop, end, kind):
    told = threading.Event()

    async def on_loop():
        write("paid")
        attempt.tell_to_stop(stop)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)

    def in_thread():
        told.wait(20)
        write("paid")
        assert current_job().should_stop

    task = bench.task({"coroutine": on_loop, "thread": in_thread}[kind], transactional=True)
    attempt, running = bench.start(await bench.claim(task))
    if kind == "thread":
        attempt.announce(stop, "enough")
        told.set()
    assert (await running).end is end
    assert ledger() == []


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_one_that_returns_late_is_rolled_back(bench, ledger, kind):
    async def on_loop():
        write("paid")
        bench.clock.now += 8

    def in_thread():
        write("paid")
        bench.clock.now += 8

    task = bench.task({"coroutine": on_loop, "thread": in_thread}[kind], transactional=True, timeout_seconds=1)
    settlement = await bench.run(task)
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TimeoutError")
    assert settlement.error.message.startswith("ran 8 s, 7 s longer than its timeout of 1 s, in test_transactions.py:")
    assert ledger() == []


async def test_its_commit_is_not_the_handlers_time(bench, ledger, monkeypatch):
    async def pay():
        write("paid")

    complete = SQLiteJobTransaction.complete

    async def complete_slowly(*args, **options):
        await bench.clock.advance(8)
        return await complete(*args, **options)

    monkeypatch.setattr(SQLiteJobTransaction, "complete", complete_slowly)
    assert (await bench.run(bench.task(pay, transactional=True, timeout_seconds=1))).state is State.COMPLETED
    assert ledger() == ["paid"]


@pytest.mark.parametrize("stop", [None, Stop.CANCEL, Stop.LOST])
async def test_an_end_is_perhaps_stored_where_the_commit_got_no_answer(bench, ledger, monkeypatch, stop):
    async def pay():
        write("paid")

    complete = SQLiteJobTransaction.complete

    async def complete_in_silence(*args, **options):
        await complete(*args, **options)
        if stop is not None:
            attempt.tell_to_stop(stop, "too late")
        raise BackendUnavailableError("the connection was lost")

    monkeypatch.setattr(SQLiteJobTransaction, "complete", complete_in_silence)
    attempt, running = bench.start(await bench.claim(bench.task(pay, transactional=True)))
    end = await running
    assert end is None if stop is Stop.LOST else type(end) is PerhapsStored
    assert stop is Stop.LOST or end.settlement.end is (End.RETRY if stop is None else End.CANCEL)
    assert ledger() == ["paid"]


@pytest.mark.parametrize("stop", [Stop.SHUTDOWN, Stop.CANCEL, Stop.TIMEOUT])
async def test_one_that_says_it_is_done_although_it_was_told_to_stop_is_completed(bench, ledger, stop):
    async def pay():
        write("paid")
        attempt.tell_to_stop(stop)
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            return Done("all the same")

    attempt, running = bench.start(await bench.claim(bench.task(pay, transactional=True)))
    end = await running
    assert (end.state, end.settlement.result) == (State.COMPLETED, '"all the same"')
    assert ledger() == ["paid"]


async def test_one_that_returns_although_it_was_lost_leaves_nothing(bench, ledger):
    async def pay():
        write("paid")
        attempt.tell_to_stop(Stop.LOST)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)

    attempt, running = bench.start(await bench.claim(bench.task(pay, transactional=True)))
    assert await running is None
    assert ledger() == []


async def test_its_deadline_is_what_the_transaction_may_take_at_most(bench):
    async def look():
        job = current_job()
        return [job.timeout.total_seconds(), (job.deadline is not None)]

    # The bench's default is an hour, and a job may carry less.
    end = await bench.run(bench.task(look, transactional=True))
    assert end.settlement.result == "[5.0,true]"
    task = bench.task(look, transactional=True, name="shop.quick")
    assert (await bench.run(task, limit=timedelta(seconds=2))).settlement.result == "[2.0,true]"
    assert (await bench.run(task, limit=timedelta(0))).settlement.result == "[5.0,true]"


async def test_arguments_that_do_not_fit_give_the_job_back_and_leave_the_file_free(bench, sqlite):
    async def pay(number: int):
        pytest.fail("it has no number")

    task = bench.task(pay, transactional=True)
    settlement = await bench.run(task.name)
    assert (settlement.end, settlement.is_unfit) == (End.RELEASE, True)
    await (await asyncio.wait_for(sqlite.begin(is_async=True), 30)).rollback()


async def test_news_wait_for_the_end_and_are_written_with_it(bench, sqlite):
    reporting = asyncio.create_task(bench.reporter.run())

    async def pay():
        job = current_job()
        job.progress(0.5)
        job.log("a line")
        await bench.clock.settle()
        write("paid")

    job = await bench.claim(bench.task(pay, transactional=True))
    _, running = bench.start(job)
    await asyncio.wait_for(running, 30)
    reporting.cancel()
    there = await bench.backend.get(job.id)
    assert (there.state, there.progress.fraction, list(there.log)) == (State.COMPLETED, 0.5, ["a line"])
    # Nothing stood in the writers' line meanwhile, where it would have come too late.
    assert not sqlite.called("report")


@pytest.mark.parametrize(("lease", "seconds"), [(20, 5), (4, 1), (600, 5)])
def test_the_longest_transaction_is_a_quarter_of_the_lease_or_what_the_store_says(tmp_path, lease, seconds):
    capabilities = SQLiteBackend(tmp_path / "tasks.db", timeout=10).capabilities
    assert longest_transaction(capabilities, lease=timedelta(seconds=lease)) == timedelta(seconds=seconds)


def test_where_nobody_waits_for_it_a_transaction_takes_as_long_as_its_job(memory):
    assert longest_transaction(memory.capabilities, lease=timedelta(seconds=20)) is None


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.parametrize("stop", [Stop.TIMEOUT, Stop.SHUTDOWN, Stop.CANCEL])
async def test_middleware_that_hangs_after_its_handler_holds_no_transaction_open_and_costs_no_completion(
    bench, clock, ledger, kind, stop
):
    hangs = asyncio.Event()

    async def around(job, proceed):
        settlement = await proceed()
        hangs.set()
        await asyncio.Event().wait()
        return settlement

    async def on_loop():
        write("paid")

    def in_thread():
        write("paid")

    bench.middleware.append(around)
    task = bench.task({"coroutine": on_loop, "thread": in_thread}[kind], transactional=True, timeout_seconds=1)
    attempt, running = bench.start(await bench.claim(task))
    await asyncio.wait_for(hangs.wait(), 20)
    if stop is Stop.TIMEOUT:
        await clock.advance(2)
    else:
        attempt.tell_to_stop(stop, "not wanted")
    end = await asyncio.wait_for(running, 20)
    assert (type(end), end.settlement.end, end.state) == (Stored, End.COMPLETE, State.COMPLETED)
    assert ledger() == ["paid"]


async def test_middleware_that_hangs_before_its_handler_holds_no_transaction_open(bench, clock, ledger):
    hangs = asyncio.Event()

    async def around(job, proceed):
        job.connection.execute("INSERT INTO ledger VALUES ('before')")
        hangs.set()
        await asyncio.Event().wait()

    async def pay():
        write("paid")

    bench.middleware.append(around)
    _, running = bench.start(await bench.claim(bench.task(pay, transactional=True, timeout_seconds=1)))
    await asyncio.wait_for(hangs.wait(), 20)
    await clock.advance(2)
    settlement = await asyncio.wait_for(running, 20)
    assert (type(settlement), settlement.end, settlement.error.kind) == (Settlement, End.RETRY, "TimeoutError")
    assert ledger() == []
