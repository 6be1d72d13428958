"""Transactional tasks: what they write and enqueue is committed with their completion, or not at all."""

import asyncio
import sqlite3
import threading
from contextlib import closing, suppress

import pytest

from deeper_tasks import BackgroundTaskManager, Cancel, Fail, Retry, Snooze, State, current_job
from deeper_tasks.errors import BackendUnavailableError, TransactionError
from deeper_tasks.integrations.events import (
    JobCompleted,
    JobEnqueued,
    JobEvent,
    JobReleased,
    JobRetried,
    JobStarted,
    ResultOmitted,
    SettlementRefused,
)
from deeper_tasks.tasks import open_transaction
from simulated_work import work_for


class Ledger:
    """A table of the application in the store's file."""

    def __init__(self, path):
        self.path = path
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE ledger (entry TEXT)")
            connection.commit()

    def write(self, entry):
        """Write in the transaction of the current job."""
        current_job().connection.execute("INSERT INTO ledger VALUES (?)", (entry,))

    def entries(self):
        with closing(sqlite3.connect(self.path)) as connection:
            return [entry for (entry,) in connection.execute("SELECT entry FROM ledger ORDER BY rowid")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.db"


@pytest.fixture
def ledger(path):
    return Ledger(path)


@pytest.fixture
async def manager(path, ledger):
    url = f"sqlite:///{path}"
    async with BackgroundTaskManager(url, poll_interval_seconds=0.05, default_retry_delay_seconds=0) as manager:
        yield manager
        # It has a thread of its own.
        await asyncio.to_thread(manager.sync.close)


@pytest.fixture
def heard(manager):
    events = []
    manager.subscribe(events.append)
    return lambda kind, task_id=None: [
        event for event in events if isinstance(event, kind) and task_id in {None, getattr(event, "job_id", None)}
    ]


@pytest.fixture(params=["coroutine", "thread"])
def define(request, manager):
    """Return a way to make a transactional task of a plain function, which runs on the loop or in a thread."""

    def define(function, **options):
        async def on_loop(*args):
            return function(*args)

        def in_thread(*args):
            return function(*args)

        chosen = on_loop if request.param == "coroutine" else in_thread
        return manager.task(name=f"shop.{function.__name__}", transactional=True, **options)(chosen)

    return define


@pytest.fixture
def run(manager, define, working, wait_until):
    """Return a way to run one job of a function to where it rests; it returns the status there."""

    async def run(function, *args, **options):
        task = define(function, **options)
        async with working(manager):
            task_id = await task.enqueue(*args)

            async def status_at_rest():
                status = await manager.get_task_status(task_id)
                return status if status.status.is_terminal or status.status is State.SCHEDULED else None

            return await wait_until(status_at_rest)

    return run


async def ended(manager, task_id):
    with suppress(Exception):
        await manager.result(task_id, timeout=30)
    return await manager.get_task_status(task_id)


async def args_of_all(manager, name):
    return sorted(entry.args[0] for entry in (await manager.list_tasks(task=name)).entries)


# Together.


async def test_what_a_task_writes_is_there_when_it_is_completed(manager, ledger, define, working, heard):
    def pay(number):
        ledger.write(f"paid {number}")
        assert ledger.entries() == []
        return {"paid": number}

    paying = define(pay)
    async with working(manager):
        task_id = await paying.enqueue(7)
        assert await manager.result(task_id, timeout=30) == {"paid": 7}
        assert ledger.entries() == ["paid 7"]
    [completed] = heard(JobCompleted)
    assert (completed.job_id, completed.attempt) == (task_id, 1)
    statistics = await manager.get_statistics()
    assert (statistics.queues["default"].completed, statistics.queues["default"].running) == (1, 0)


async def test_what_it_enqueues_is_there_with_it_and_told_of_after_the_commit(manager, ledger, define, working, heard):
    @manager.task(name="shop.thank")
    async def thank(number: int):
        return number

    def pay(number):
        ledger.write("paid")
        first = manager.sync.enqueue_task(thank, args=[number])
        second = manager.sync.enqueue_many([thank.call(number + 1)])[0]
        assert not heard(JobEnqueued, first)
        with pytest.raises(LookupError):
            manager.sync.get_task_status(second)
        return [first, second]

    paying = define(pay)
    async with working(manager):
        ids = await manager.result(await paying.enqueue(7), timeout=30)
        assert [await manager.result(each, timeout=30) for each in ids] == [7, 8]
    await manager.close()
    assert all(len(heard(JobEnqueued, each)) == 1 for each in ids)


async def test_an_async_task_enqueues_in_its_transaction_by_every_way(manager, ledger, working):
    @manager.task(name="shop.thank")
    async def thank(number: int):
        return number

    @manager.task(name="shop.pay", transactional=True)
    async def pay(fails):
        await thank.enqueue(1)
        await thank.with_options(delay_seconds=3600).enqueue(2)
        await manager.enqueue_task("shop", "thank", [3])
        await manager.schedule_task(thank, args=[4], scheduled_at=3600)
        await manager.enqueue_many([thank.call(5), thank.call(6)])
        if fails:
            raise Cancel("no")

    async with working(manager):
        await ended(manager, await pay.enqueue(True))
        assert await args_of_all(manager, "shop.thank") == []
        await ended(manager, await pay.enqueue(False))
        assert await args_of_all(manager, "shop.thank") == [1, 2, 3, 4, 5, 6]


async def test_a_unique_key_taken_inside_is_free_again_when_all_is_rolled_back(manager, define, working):
    @manager.task(name="shop.thank", unique="until_done", queue="other")
    async def thank():
        pass

    def pay():
        task_id = manager.sync.enqueue_task(thank)
        assert task_id.is_new
        if current_job().attempt == 1:
            raise Retry
        return task_id

    paying = define(pay)
    async with working(manager, {"default": 2}):
        task_id = await manager.result(await paying.enqueue(), timeout=30)
        assert (await thank.enqueue()) == task_id


async def test_the_middleware_is_inside_the_transaction(manager, ledger, run):
    @manager.middleware
    async def around(job, proceed):
        job.connection.execute("INSERT INTO ledger VALUES ('before')")
        settlement = await proceed()
        job.connection.execute("INSERT INTO ledger VALUES ('after')")
        if job.attempt == 1:
            raise RuntimeError("the middleware's")
        return settlement

    def pay():
        ledger.write("paid")

    status = await run(pay)
    assert (status.status, status.attempts) == (State.COMPLETED, 2)
    assert ledger.entries() == ["before", "paid", "after"]


async def test_rows_come_as_the_task_wants_them(manager, define, working):
    def look():
        connection = current_job().connection
        connection.row_factory = sqlite3.Row
        return [connection.execute("SELECT 1 AS one").fetchone()["one"], *connection.execute("SELECT 2").fetchone()]

    looking = define(look)
    async with working(manager):
        assert await manager.result(await looking.enqueue(), timeout=30) == [1, 2]
        # What one has set on its connection is not there for the next.
        assert await manager.result(await looking.enqueue(), timeout=30) == [1, 2]


async def test_a_savepoint_takes_back_a_part(ledger, run):
    def pay():
        connection = current_job().connection
        ledger.write("kept")
        connection.execute("SAVEPOINT part")
        ledger.write("taken back")
        connection.execute("ROLLBACK TO part")
        connection.execute("RELEASE part")

    assert (await run(pay)).status is State.COMPLETED
    assert ledger.entries() == ["kept"]


async def test_progress_and_log_are_kept_though_nothing_else_can_write_meanwhile(run):
    def pay():
        job = current_job()
        job.connection.execute("INSERT INTO ledger VALUES ('paid')")
        job.progress(0.5, "half")
        job.log("a line")
        job.log("another")

    status = await run(pay)
    assert status.status is State.COMPLETED
    assert status.progress.message == "half"
    assert list(status.log) == ["a line", "another"]


async def test_a_result_that_cannot_be_kept_is_left_out_and_the_rest_committed(ledger, heard, run):
    def pay():
        ledger.write("paid")
        return object()

    status = await run(pay)
    assert (status.status, status.result) == (State.COMPLETED, None)
    assert status.result_omitted.startswith("the result is not JSON")
    assert ledger.entries() == ["paid"]
    assert len(heard(ResultOmitted)) == 1


async def test_many_run_one_at_a_time_and_each_once(manager, ledger, define, working):
    inside = []

    def pay(number):
        inside.append(number)
        assert len(inside) == 1
        ledger.write(str(number))
        inside.pop()

    paying = define(pay)
    async with working(manager, {"default": 10}):
        ids = await manager.enqueue_many([paying.call(number) for number in range(60)])
        assert {(await ended(manager, each)).status for each in ids} == {State.COMPLETED}
    assert sorted(map(int, ledger.entries())) == list(range(60))


# Nothing at all.


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        (ValueError("boom"), State.DISCARDED),
        (Retry(), State.DISCARDED),
        (Fail("never"), State.FAILED),
        (Cancel("no"), State.CANCELLED),
        (Snooze(3600), State.SCHEDULED),
        (SystemExit(1), State.DISCARDED),
    ],
)
@pytest.mark.parametrize("is_raised", [True, False])
async def test_every_other_end_rolls_back_and_counts_as_ever(ledger, ending, state, is_raised, run):
    def pay():
        ledger.write("paid")
        if is_raised or not isinstance(ending, Retry | Fail | Cancel | Snooze):
            raise ending
        return ending

    status = await run(pay, max_attempts=1)
    assert (status.status, status.attempts) == (state, 0 if state is State.SCHEDULED else 1)
    assert ledger.entries() == []


async def test_news_of_an_attempt_that_was_rolled_back_are_kept(ledger, run):
    def pay():
        current_job().log("before the error")
        ledger.write("paid")
        raise ValueError("boom")

    status = await run(pay, max_attempts=1)
    assert list(status.log) == ["before the error"]


async def test_an_attempt_that_failed_is_followed_by_one_that_has_its_effect_once(ledger, heard, run):
    def pay():
        ledger.write(f"attempt {current_job().attempt}")
        if current_job().attempt < 3:
            raise ValueError("boom")

    status = await run(pay)
    assert (status.status, status.attempts) == (State.COMPLETED, 3)
    assert ledger.entries() == ["attempt 3"]
    assert len(heard(JobRetried)) == 2
    assert len(heard(JobCompleted)) == 1


async def test_a_constraint_that_is_checked_at_the_commit_fails_the_attempt(manager, ledger, define, working):
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE child (parent REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)")
        connection.commit()

    def pay():
        connection = current_job().connection
        connection.execute("INSERT INTO child VALUES (42)")

    define(pay, max_attempts=1)
    url = f"{manager.settings.url}?foreign_keys=on"
    async with BackgroundTaskManager(url, poll_interval_seconds=0.05) as strict:
        strict.registry.add(manager.registry.get("shop.pay"))
        async with working(strict):
            status = await ended(strict, await strict.enqueue_task("shop", "pay"))
    assert status.status is State.DISCARDED
    assert "FOREIGN KEY" in status.last_error
    with closing(sqlite3.connect(ledger.path)) as connection:
        assert connection.execute("SELECT count(*) FROM child").fetchone() == (0,)


async def test_one_that_was_taken_from_its_worker_leaves_nothing(manager, ledger, working, wait_until, heard):
    """Its token does not hold any more: as if another worker had rescued it, which here the task itself does."""

    @manager.task(name="shop.thank")
    async def thank():
        pass

    @manager.task(name="shop.pay", transactional=True)
    async def pay():
        ledger.write("paid")
        job = current_job()
        job.connection.execute("UPDATE deeper_job SET token = 'of another' WHERE id = ?", (job.id,))
        await thank.enqueue()

    async with working(manager):
        task_id = await pay.enqueue()
        await wait_until(lambda: heard(SettlementRefused))
        assert ledger.entries() == []
    assert await args_of_all_ids(manager, "shop.thank") == []
    assert not heard(JobCompleted, task_id)


async def args_of_all_ids(manager, name):
    return [entry.id for entry in (await manager.list_tasks(task=name)).entries]


async def test_an_answer_to_the_commit_that_was_lost_is_asked_for(ledger, run, monkeypatch, heard):
    from deeper_tasks.backends.sqlite.job_transaction import SQLiteJobTransaction

    complete = SQLiteJobTransaction.complete

    async def lose(self, settlement, *, report=None):
        await complete(self, settlement, report=report)
        raise BackendUnavailableError("the answer was lost")

    monkeypatch.setattr(SQLiteJobTransaction, "complete", lose)

    def pay():
        ledger.write("paid")
        return 42

    status = await run(pay)
    assert (status.status, status.attempts, status.result) == (State.COMPLETED, 1, 42)
    assert ledger.entries() == ["paid"]
    assert type(heard(JobEvent)[-1]) is JobCompleted
    assert not heard(JobRetried)


async def test_nothing_is_told_of_a_commit_whose_answer_was_lost_and_whose_job_was_deleted_since(
    manager, ledger, monkeypatch, working, heard
):
    from deeper_tasks.backends.sqlite.job_transaction import SQLiteJobTransaction

    complete, is_deleted = SQLiteJobTransaction.complete, asyncio.Event()

    async def lose(self, settlement, *, report=None):
        await complete(self, settlement, report=report)
        await manager.delete_task(settlement.id)
        is_deleted.set()
        raise BackendUnavailableError("the answer was lost")

    monkeypatch.setattr(SQLiteJobTransaction, "complete", lose)

    @manager.task(name="shop.pay", transactional=True)
    async def pay():
        ledger.write("paid")

    async with working(manager):
        task_id = await pay.enqueue()
        await asyncio.wait_for(is_deleted.wait(), 30)
    assert ledger.entries() == ["paid"]
    assert [type(event) for event in heard(JobEvent, task_id)] == [JobEnqueued, JobStarted]


async def test_a_commit_that_did_not_happen_is_another_attempt(ledger, monkeypatch, run):
    from deeper_tasks.backends.sqlite.job_transaction import SQLiteJobTransaction

    complete, calls = SQLiteJobTransaction.complete, []

    async def fail(self, settlement, *, report=None):
        calls.append(settlement)
        if len(calls) == 1:
            raise BackendUnavailableError("the disk is full")
        return await complete(self, settlement, report=report)

    monkeypatch.setattr(SQLiteJobTransaction, "complete", fail)

    def pay():
        ledger.write(f"attempt {current_job().attempt}")

    status = await run(pay)
    assert (status.status, status.attempts) == (State.COMPLETED, 2)
    assert ledger.entries() == ["attempt 2"]


# Stopped.


@pytest.mark.parametrize("kind", ["awaits", "computes", "blocks the loop", "searches", "sleeps in a thread"])
async def test_one_that_takes_too_long_is_broken_off_and_nobody_waits_for_it(path, ledger, working, kind):
    """The store's limit is half of its timeout: here half a second."""
    may_end = threading.Event()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    # Closed last: what is in the thread ends with the test.
    async with BackgroundTaskManager(f"sqlite:///{path}?timeout=1", poll_interval_seconds=0.05) as manager:

        async def awaits():
            ledger.write("paid")
            await asyncio.sleep(600)

        async def blocks():
            ledger.write("paid")
            may_end.wait(3)
            ledger.write("after the end")

        async def computes():
            ledger.write("paid")
            current_job().connection.execute(endless)

        def searches():
            ledger.write("paid")
            current_job().connection.execute(endless).fetchone()

        def sleeps():
            ledger.write("paid")
            may_end.wait(3)
            ledger.write("after the end")

        chosen = {
            "awaits": awaits,
            "blocks the loop": blocks,
            "computes": computes,
            "searches": searches,
            "sleeps in a thread": sleeps,
        }[kind]
        slow = manager.task(name="shop.slow", transactional=True, max_attempts=1)(chosen)
        async with working(manager):
            status = await ended(manager, await slow.enqueue())
        assert status.status is State.DISCARDED
        assert status.errors[-1].kind == "TimeoutError"
        assert ledger.entries() == []


async def test_a_timeout_of_its_own_strikes_before_the_stores(manager, ledger, working):
    @manager.task(transactional=True, name="shop.slow", timeout_seconds=0.1, max_attempts=1)
    async def slow():
        ledger.write("paid")
        await asyncio.sleep(600)

    async with working(manager):
        status = await ended(manager, await slow.enqueue())
    assert (status.status, status.errors[-1].kind) == (State.DISCARDED, "TimeoutError")
    assert ledger.entries() == []


async def test_waiting_for_its_turn_is_no_part_of_the_timeout(manager, ledger, working):
    @manager.task(transactional=True, name="shop.slow", timeout_seconds=1.5)
    async def slow():
        await work_for(0.5)
        ledger.write("paid")

    async with working(manager, {"default": 5}):
        ids = await manager.enqueue_many([slow.call() for _ in range(5)])
        assert [(await ended(manager, each)).attempts for each in ids] == [1] * 5
    assert ledger.entries() == ["paid"] * 5


async def test_a_shutdown_gives_back_what_waits_and_rolls_back_what_runs(path, ledger, wait_until):
    started = []
    url = f"sqlite:///{path}"
    async with BackgroundTaskManager(url, poll_interval_seconds=0.05, shutdown_grace_seconds=0) as manager:
        released = []
        manager.subscribe(released.append, JobReleased)

        @manager.task(transactional=True, name="shop.hold")
        async def hold():
            ledger.write("paid")
            started.append(current_job().id)
            await asyncio.sleep(600)

        ids = await manager.enqueue_many([hold.call(), hold.call()])
        begun = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(
            manager.run_worker({"default": 2}, handle_signals=False, on_start=begun.set_result)
        )
        await wait_until(lambda: started)
        (await begun).stop()
        await running
        assert ledger.entries() == []
        statuses = [await manager.get_task_status(each) for each in ids]
        assert {(status.status, status.attempts) for status in statuses} == {(State.PENDING, 0)}
        assert {event.job_id for event in released} == set(ids)


# What it may not do.


@pytest.mark.parametrize(
    "end",
    [
        lambda connection: connection.commit(),
        lambda connection: connection.rollback(),
        lambda connection: connection.close(),
        lambda connection: connection.__enter__(),
        lambda connection: connection.execute("COMMIT"),
        lambda connection: connection.cursor().execute("  end transaction"),
        lambda connection: connection.execute("ROLLBACK"),
        lambda connection: connection.executescript("SELECT 1"),
        lambda connection: setattr(connection, "isolation_level", None),
    ],
)
async def test_to_end_the_transaction_is_refused_at_once(ledger, end, run):
    def pay():
        ledger.write("paid")
        with pytest.raises(TransactionError, match="cannot end its job's transaction"):
            end(current_job().connection)
        ledger.write("still in it")

    assert (await run(pay)).status is State.COMPLETED
    assert ledger.entries() == ["paid", "still in it"]


async def test_one_that_ends_it_in_spite_of_all_fails_for_everybody_to_see(ledger, run):
    def pay():
        ledger.write("paid")
        connection = current_job().connection
        connection.set_authorizer(None)
        connection.execute("COMMIT")

    status = await run(pay)
    assert (status.status, status.attempts) == (State.FAILED, 1)
    assert "ended before its task returned" in status.last_error


async def test_one_that_begins_another_transaction_is_found_out(ledger, run):
    def pay():
        connection = current_job().connection
        connection.set_authorizer(None)
        ledger.write("paid")
        sqlite3.Cursor(connection).execute("COMMIT")
        sqlite3.Cursor(connection).execute("BEGIN IMMEDIATE")
        ledger.write("of another transaction")

    status = await run(pay)
    assert (status.status, status.attempts) == (State.FAILED, 1)
    assert ledger.entries() == ["paid"]


async def test_what_waits_for_the_transaction_itself_is_refused_and_not_waited_for(manager, ledger, define, working):
    @manager.task(name="shop.thank")
    async def thank():
        pass

    other = await thank.with_options(delay_seconds=3600).enqueue()

    def pay():
        ledger.write("paid")
        for call in (
            lambda: manager.sync.cancel_task(other),
            lambda: manager.sync.queues.pause("default"),
            lambda: manager.sync.schedule_recurring_task("tick", thank, cron_expression="@daily"),
            manager.sync.declare_recurring_tasks,
            lambda: manager.sync.run_recurring_task("tick"),
            lambda: manager.sync.reschedule_task(other, 5),
            manager.sync.retry_tasks,
            lambda: manager.sync.delete_task(other),
            manager.sync.cleanup_old_tasks,
            manager.sync.compact_store,
            manager.sync.migrate,
        ):
            with pytest.raises(TransactionError, match="outside of the job's own transaction"):
                call()
        return manager.sync.get_task_status(other).status

    paying = define(pay)
    async with working(manager):
        assert await manager.result(await paying.enqueue(), timeout=30) == "scheduled"


async def test_another_manager_of_the_same_file_is_refused_and_not_waited_for(path, ledger, define, working, manager):
    link = path.with_name("link.db")
    link.symlink_to(path)

    other = BackgroundTaskManager(f"sqlite:///{link}")

    @other.task(name="shop.thank")
    async def thank():
        pass

    def pay():
        ledger.write("paid")
        with other.sync:
            for call in (thank.sync.enqueue, lambda: other.sync.queues.pause("default")):
                with pytest.raises(TransactionError, match="outside of the job's own transaction"):
                    call()
            return other.sync.list_tasks().total_entries

    paying = define(pay)
    async with working(manager):
        assert await manager.result(await paying.enqueue(), timeout=30) == 1


async def test_what_outlives_the_task_is_refused(manager, ledger, working):
    failures, may_go_on = [], asyncio.Event()

    @manager.task(name="shop.thank")
    async def thank():
        pass

    async def outlive(connection):
        await may_go_on.wait()
        for step in (thank.enqueue, lambda: current_job().connection, lambda: connection.execute("SELECT 1")):
            try:
                answer = step()
                await answer
            except TransactionError as error:
                failures.append(str(error))

    left = []

    @manager.task(name="shop.pay", transactional=True)
    async def pay():
        ledger.write("paid")
        left.append(asyncio.create_task(outlive(current_job().connection)))
        await asyncio.sleep(0)

    async with working(manager):
        assert (await ended(manager, await pay.enqueue())).status is State.COMPLETED
        may_go_on.set()
        await left[0]
    assert len(failures) == 3
    assert all("has ended" in failure or "is over" in failure for failure in failures)
    assert await args_of_all_ids(manager, "shop.thank") == []


async def test_the_next_job_of_a_slot_has_no_part_in_the_transaction_before(manager, ledger, working):
    seen = []

    @manager.middleware
    async def around(job, proceed):
        seen.append((job.task, open_transaction() is None))
        await manager.enqueue_task("shop", "later", delay_seconds=3600)
        return await proceed()

    @manager.task(name="shop.later")
    async def later():
        pass

    @manager.task(name="shop.pay", transactional=True)
    async def pay():
        ledger.write("paid")

    @manager.task(name="shop.thank")
    async def thank():
        with pytest.raises(TransactionError, match="transactional=True"):
            _ = current_job().connection

    async with working(manager, {"default": 1}):
        ids = await manager.enqueue_many([pay.call(), thank.call(), pay.call(), thank.call()])
        assert {(await ended(manager, each)).status for each in ids} == {State.COMPLETED}
    assert sorted(seen) == [("shop.pay", False)] * 2 + [("shop.thank", True)] * 2


async def test_who_hears_of_a_job_that_was_enqueued_inside_can_enqueue_another(manager, ledger, working, wait_until):
    heard = []

    @manager.task(name="shop.thank", queue="other")
    async def thank():
        pass

    def enqueue_another(event):
        if event.task == "shop.thank" and not heard:
            heard.append(asyncio.get_running_loop().create_task(thank.enqueue()))

    manager.subscribe(enqueue_another, JobEnqueued)

    @manager.task(name="shop.pay", transactional=True)
    async def pay():
        ledger.write("paid")
        await thank.enqueue()

    async with working(manager, {"default": 1}):
        assert (await ended(manager, await pay.enqueue())).status is State.COMPLETED
        await wait_until(lambda: heard and heard[0].done())
    assert heard[0].exception() is None
    assert len(await args_of_all_ids(manager, "shop.thank")) == 2


async def test_another_managers_jobs_do_not_join(manager, ledger, define, working, tmp_path):
    async with BackgroundTaskManager(f"sqlite:///{tmp_path}/other.db") as other:

        @other.task(name="shop.thank")
        async def thank():
            pass

        def pay():
            ledger.write("paid")
            other.sync.enqueue_task(thank)
            raise Fail("no")

        paying = define(pay)
        async with working(manager):
            await ended(manager, await paying.enqueue())
        assert len(await args_of_all_ids(other, "shop.thank")) == 1
        other.sync.close()
    assert ledger.entries() == []
