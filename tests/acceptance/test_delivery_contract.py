"""
The delivery contract, line by line, through the facade: on SQLite, PostgreSQL, and in memory where that can be.

Each test names its line. Line 8 speaks of stores that have transactions: SQLite
proves them, and memory says that it has none.
"""

import asyncio
import sqlite3
import time
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta

import pytest
from workshop import tasks
from workshop.crew import STORES

from deeper_tasks import BackgroundTaskManager, Done, Fail, State, current_job
from deeper_tasks.backends.protocol import Node
from deeper_tasks.domain.schedule import plan_firing
from deeper_tasks.domain.settlement import End, Report, Settlement
from deeper_tasks.errors import InvalidTransitionError, JobNotFoundError, UnsupportedError
from simulated_work import block_for

SECOND = timedelta(seconds=1)


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
async def manager(request, crew):
    url = "memory://"
    if request.param != "memory":
        url = crew.url if request.param == "sqlite" else request.getfixturevalue("database_url")
    async with BackgroundTaskManager(url, prefetch_milliseconds=0, poll_interval_seconds=0.1) as manager:
        manager.include(tasks)
        yield manager


@pytest.fixture
def shop(crew):
    """A connection of an application to the store's file, with a table of its own."""
    with closing(sqlite3.connect(crew.database, timeout=30)) as connection:
        connection.execute("CREATE TABLE orders (number INTEGER)")
        connection.commit()
        yield connection


def _orders(shop):
    return [row[0] for row in shop.execute("SELECT number FROM orders ORDER BY number")]


@asynccontextmanager
async def _worker(manager, slots=2):
    started = asyncio.get_running_loop().create_future()
    work = manager.run_worker({"default": slots}, handle_signals=False, on_start=started.set_result)
    running = asyncio.create_task(work)
    await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
    worker = await started
    try:
        yield worker
    finally:
        worker.stop()
        await running


async def _ended(manager, job):
    return (await manager.get_task_status(job)).status.is_terminal


async def _node(manager, name):
    node = Node(id=name, name=name, host="elsewhere", scope="", pid=1, pid_started="", queues={"default": 10})
    await manager.backend.register(node)
    return node.id


async def _take(manager, node, *, token, limit=10):
    return (await manager.backend.claim("default", limit=limit, slots=limit, node=node, token=token)).jobs


async def _declare_dead(manager, node):
    (record,) = [record for record in await manager.backend.nodes() if record.node.id == node]
    return await manager.backend.rescue(node, beat=record.beat)


def _end(job, end=End.COMPLETE):
    return Settlement(id=job.id, token=job.token, end=end)


@pytest.mark.parametrize(("option", "level"), [("", 2), ("?synchronous=normal", 1)], ids=["by default", "as asked"])
async def test_line_1_an_enqueue_that_returned_is_durable_to_the_stores_setting(crew, option, level):
    """An enqueue that returned is durable to the store's setting (FULL unless the URL says otherwise)."""
    async with BackgroundTaskManager(f"{crew.url}{option}") as manager:
        job = await manager.enqueue_task(tasks.nap)
        # No transaction is left open, and another connection has it, before anything is closed.
        connection = sqlite3.connect(f"file:{crew.database}?mode=ro", uri=True)
        assert connection.execute("SELECT id FROM deeper_job").fetchall() == [(job,)]
        connection.close()
        durability = await manager.backend._threads.write(lambda own: own.execute("PRAGMA synchronous").fetchone()[0])
        assert durability == level


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_line_1_an_enqueue_that_returned_outlives_its_process(crew):
    """An enqueue that returned is durable: the process that made it is killed with the ids in its hands."""
    producer = crew.start("workshop.producer", "one", is_piped=True)
    ids = [(await asyncio.to_thread(producer.process.stdout.readline)).decode().strip() for _ in range(5)]
    producer.kill()
    async with BackgroundTaskManager(crew.url) as manager:
        assert [(await manager.get_task_status(job)).status for job in ids] == [State.PENDING] * 5


async def test_line_2_every_job_runs_at_least_once_or_ends_visibly(manager, wait_until):
    """Every job runs at least once, or ends visibly as failed, discarded, cancelled or expired."""

    @manager.task(name="contract.behave", retry_delay_seconds=0)
    async def behave(how):
        if how == "fail":
            raise Fail("it cannot be")
        if how == "raise":
            raise RuntimeError("not today")
        return how

    expected = {
        await behave.enqueue("return"): (State.COMPLETED, 1, []),
        await behave.enqueue("fail"): (State.FAILED, 1, ["Fail"]),
        await behave.with_options(max_attempts=2).enqueue("raise"): (State.DISCARDED, 2, ["RuntimeError"] * 2),
        await behave.with_options(expires_in_seconds=1e-6).enqueue("late"): (State.FAILED, 0, ["Expired"]),
    }
    cancelled = await behave.enqueue("cancelled")
    await manager.cancel_task(cancelled)
    async with _worker(manager):
        for job in expected:
            await wait_until(lambda job=job: _ended(manager, job))
    for job, end in expected.items():
        status = await manager.get_task_status(job)
        assert (status.status, status.attempts, [error.kind for error in status.errors]) == end
    assert (await manager.get_task_status(cancelled)).status is State.CANCELLED
    assert (await manager.list_tasks()).total_entries == len(expected) + 1


async def test_line_2_no_job_of_a_worker_that_died_vanishes(manager):
    """None vanishes, none runs for ever: what a dead worker held runs again, and at last is discarded."""
    job = await manager.enqueue_task(tasks.nap, max_attempts=2)
    for attempt in (1, 2):
        node = await _node(manager, f"short-lived {attempt}")
        (taken,) = await _take(manager, node, token=f"token {attempt}")
        assert taken.attempt == attempt
        # The second attempt runs in quarantine, whose start the worker writes.
        await manager.backend.report([Report(id=job, token=taken.token, has_started=True)])
        assert [each.id for each in (await _declare_dead(manager, node)).jobs] == [job]
    status = await manager.get_task_status(job)
    assert (status.status, [error.kind for error in status.errors]) == (State.DISCARDED, ["WorkerLost"] * 2)


async def test_line_3_two_live_workers_never_run_the_same_attempt(manager):
    """Two live workers never run the same attempt: claims at the same time share out the jobs."""
    ids = await manager.enqueue_many([tasks.nap.call()] * 50)
    nodes = [await _node(manager, f"worker {number}") for number in range(5)]
    taken = await asyncio.gather(*(_take(manager, node, token=f"token {node}", limit=20) for node in nodes))
    assert sorted(job.id for jobs in taken for job in jobs) == sorted(ids)


async def test_line_3_a_stale_workers_end_is_refused(manager):
    """A stale worker's end is refused: the job belongs to the one that has claimed it since."""
    job = await manager.enqueue_task(tasks.nap)
    stale, fresh = await _node(manager, "stale"), await _node(manager, "fresh")
    (first,) = await _take(manager, stale, token="one")
    await _declare_dead(manager, stale)
    assert await manager.backend.settle([_end(first)]) == []
    (second,) = await _take(manager, fresh, token="two")
    assert await manager.backend.settle([_end(first, End.DISCARD)]) == []
    assert (await manager.backend.get(job)).state is State.RUNNING
    assert [settled.state for settled in await manager.backend.settle([_end(second)])] == [State.COMPLETED]
    assert await manager.backend.settle([_end(first, End.FAIL)]) == []
    assert (await manager.get_task_status(job)).status is State.COMPLETED


async def test_line_4_a_terminal_state_never_changes_except_by_an_operators_retry(manager):
    """A terminal state never changes except by an operator's retry."""
    node = await _node(manager, "worker")
    for end, state in (
        (End.COMPLETE, State.COMPLETED),
        (End.FAIL, State.FAILED),
        (End.DISCARD, State.DISCARDED),
        (End.CANCEL, State.CANCELLED),
    ):
        job = await manager.enqueue_task(tasks.nap)
        (claimed,) = await _take(manager, node, token=f"token {end}")
        await manager.backend.settle([_end(claimed, end)])
        ended = await manager.get_task_status(job)
        assert ended.status is state
        with pytest.raises(InvalidTransitionError):
            await manager.cancel_task(job)
        for other in End:
            await manager.backend.settle([_end(claimed, other)])
        await manager.backend.promote()
        await manager.backend.expire()
        assert await _take(manager, node, token=f"again {end}") == ()
        assert await manager.get_task_status(job) == ended
        if state is State.COMPLETED:
            with pytest.raises(InvalidTransitionError):
                await manager.retry_task(job)
        else:
            await manager.retry_task(job)
            assert (await manager.get_task_status(job)).status is State.PENDING
            await manager.delete_task(job)
    await _declare_dead(manager, node)
    assert (await manager.list_tasks(status="completed")).total_entries == 1


async def test_line_5_with_one_slot_jobs_start_by_priority_due_time_and_id(manager, wait_until):
    """A claim takes the first by priority, due time, id; with one slot and no prefetch jobs start in that order."""
    started = []

    @manager.task(name="contract.note")
    async def note(name):
        started.append(name)

    long_ago = datetime.now(UTC) - timedelta(hours=1)
    jobs = [
        await note.with_options(priority=5).enqueue("fifth"),
        await note.enqueue("third"),
        await note.enqueue("fourth"),
        await note.with_options(priority=-5).enqueue("first"),
        await note.with_options(priority=-5).enqueue("second"),
    ]
    # A past date runs now: it does not overtake those that were here before.
    jobs.append(await manager.schedule_task(note, args=["sixth"], scheduled_at=long_ago, priority=5))
    async with _worker(manager, slots=1):
        for job in jobs:
            await wait_until(lambda job=job: _ended(manager, job))
    assert started == ["first", "second", "third", "fourth", "fifth", "sixth"]


async def test_line_6_a_unique_key_is_held_for_its_period_whatever_becomes_of_the_job(manager):
    """A unique key is held for `unique_for_seconds` after its enqueue; a second enqueue gets the holder's id."""
    once = tasks.nap.with_options(unique_for_seconds=3600)
    first = await manager.enqueue_many([once.call(1), once.call(1), once.call(2)])
    assert [each.is_new for each in first] == [True, False, True]
    assert first[0] == first[1] != first[2]
    await manager.cancel_task(first[0])
    again = await manager.enqueue_task(tasks.nap, args=[1], unique_for_seconds=3600)
    assert (again, again.is_new) == (first[0], False)


async def test_line_6_a_unique_key_until_done_is_free_when_its_job_has_ended_or_is_deleted(manager):
    """A unique key until_done is held until the job ends or is deleted; a retried job takes it again if it is free."""

    async def enqueue():
        return await manager.enqueue_task(tasks.nap, unique="until_done", unique_key="the one")

    first = await enqueue()
    assert (await enqueue()) == first
    await manager.cancel_task(first)
    second = await enqueue()
    assert second.is_new
    await manager.delete_task(second)
    await manager.retry_task(first)
    held = await enqueue()
    assert (held, held.is_new) == (first, False)
    await manager.cancel_task(first)
    third = await enqueue()
    # The key is another's now: the retried job runs without, and its end does not free what it does not hold.
    await manager.retry_task(first)
    await manager.cancel_task(first)
    assert (await enqueue(), third.is_new) == (third, True)


async def test_line_7_a_recurring_entry_fires_once_per_due_time_across_workers_and_restarts(manager):
    """A recurring entry fires once per due time, across any number of workers, clock changes and restarts."""

    async def register():
        return await manager.schedule_recurring_task("report", tasks.nap, cron_expression="0 * * * *")

    due = (await register()).next_run
    fired = []
    # The clock goes on, stands still, steps back and goes on again; a deploy registers the entry anew each time.
    for now in (due - SECOND, due, due, due - 3600 * SECOND, due, due + 3600 * SECOND):
        await register()
        (entry,) = (await manager.backend.schedules()).entries
        firing = plan_firing(entry, now=now)
        if firing is not None and not firing.is_repair:
            answers = await asyncio.gather(*(manager.backend.fire(firing, now=now) for _ in range(5)))
            fired += [job for answer in answers if answer is not None for job in answer.jobs]
    assert len(fired) == len(set(fired)) == 2
    assert {status.id for status in (await manager.list_tasks()).entries} == set(fired)


async def test_line_9_a_repeated_insert_changes_nothing_and_gives_the_same_answer(manager):
    """A repeated request after a lost reply changes nothing and gives the same answer: insert."""
    first = await manager.enqueue_task(tasks.nap, args=[1])
    again = await manager.enqueue_task(tasks.nap, args=[1], task_id=first)
    assert (again, first.is_new, again.is_new) == (first, True, False)
    assert (await manager.list_tasks()).total_entries == 1
    node = await _node(manager, "worker")
    (claimed,) = await _take(manager, node, token="one")
    await manager.backend.settle([_end(claimed)])
    assert await manager.enqueue_task(tasks.nap, args=[1], task_id=first) == first
    assert (await manager.get_task_status(first)).status is State.COMPLETED


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
async def test_line_8_a_job_exists_if_and_only_if_its_transaction_commits(crew, shop, wait_until, is_sync):
    """A job enqueued inside the user's transaction exists if and only if that transaction commits: it runs."""
    async with BackgroundTaskManager(crew.url, poll_interval_seconds=0.1) as manager:
        sold = []

        @manager.task(name="contract.ship")
        async def ship(number):
            sold.append(number)

        async def order(number):
            shop.execute("INSERT INTO orders VALUES (?)", (number,))
            if is_sync:
                return manager.sync.enqueue_task(ship, args=[number], connection=shop)
            return await ship.with_options(connection=shop).enqueue(number)

        async with _worker(manager):
            forgotten = await order(1)
            assert (await manager.list_tasks()).total_entries == 0
            shop.rollback()
            kept = await order(2)
            assert (await manager.list_tasks()).total_entries == 0
            shop.commit()
            await wait_until(lambda: _ended(manager, kept))
        assert sold == [2]
        assert _orders(shop) == [2]
        with pytest.raises(JobNotFoundError):
            await manager.get_task_status(forgotten)
        assert (await manager.list_tasks()).total_entries == 1
        manager.sync.close()


@pytest.mark.parametrize("how", ["async", "sync"])
async def test_line_8_a_transaction_whose_process_was_killed_leaves_no_job(crew, shop, how):
    """A job whose process is killed between the enqueue and the commit never was; what was committed before is."""
    seller = crew.start("workshop.seller", how, is_piped=True)
    committed, open_at_the_end = [
        (await asyncio.to_thread(seller.process.stdout.readline)).decode().split() for _ in range(2)
    ]
    seller.kill()
    async with BackgroundTaskManager(crew.url) as manager:
        assert committed[0] == "committed"
        assert open_at_the_end[0] == "open"
        assert (await manager.get_task_status(committed[1])).status is State.PENDING
        with pytest.raises(JobNotFoundError):
            await manager.get_task_status(open_at_the_end[1])
        assert (await manager.list_tasks()).total_entries == 1
        assert _orders(shop) == [1]
    crew.check_database()


async def test_line_8_a_store_without_transactions_says_so_and_takes_no_connection(shop):
    """In a store that has no transactions an enqueue inside one is refused, and never done outside of it."""
    async with BackgroundTaskManager("memory://") as manager:
        assert not manager.backend.capabilities.has_transactions
        with pytest.raises(UnsupportedError, match="transaction"):
            await manager.enqueue_task(tasks.nap, connection=shop)
        assert (await manager.list_tasks()).total_entries == 0


async def test_line_9_a_repeated_claim_and_settle_change_nothing_and_give_the_same_answer(manager):
    """A repeated request after a lost reply changes nothing and gives the same answer: claim, settle."""
    ids = await manager.enqueue_many([tasks.nap.call()] * 4)
    node = await _node(manager, "worker")
    first = await _take(manager, node, token="one", limit=2)
    again = await _take(manager, node, token="one", limit=2)
    assert [(job.id, job.attempt, job.token) for job in again] == [(job.id, 1, "one") for job in first]
    assert [job.id for job in first] == ids[:2]
    answer = await manager.backend.settle([_end(job) for job in first])
    ended = [await manager.get_task_status(job) for job in ids[:2]]
    statistics = (await manager.get_statistics()).queues
    assert await manager.backend.settle([_end(job) for job in first]) == answer
    assert [await manager.get_task_status(job) for job in ids[:2]] == ended
    assert (await manager.get_statistics()).queues == statistics
    assert statistics["default"].completed == 2


async def test_line_10_a_handler_that_stops_early_has_not_completed(manager, wait_until):
    """A handler that has seen a stop and returns ends as that asks; one that never looked has completed."""
    go = asyncio.Event()

    @manager.task(name="contract.stop")
    async def stop(how):
        if how != "deaf":
            while not current_job().stopping:  # noqa: ASYNC110 - the stop comes from the worker
                await asyncio.sleep(0)
        await go.wait()
        return Done("all") if how == "done" else "a part"

    @manager.task(name="contract.late", timeout_seconds=0.05, max_attempts=1)
    def late(how):
        if how == "looks":
            while not current_job().timed_out:
                time.sleep(0.005)
        else:
            block_for(0.06)
        return "too late"

    late_ones = [await late.enqueue("looks"), await late.enqueue("sleeps")]
    ids = {how: await stop.enqueue(how) for how in ("deaf", "part", "done")}
    async with _worker(manager, slots=5) as worker:
        await wait_until(lambda: worker.busy >= len(ids))
        for job in late_ones:
            await wait_until(lambda job=job: _ended(manager, job))
        worker.stop()
        await asyncio.sleep(0)
        go.set()
    for job in late_ones:
        status = await manager.get_task_status(job)
        assert (status.status, status.attempts) == (State.DISCARDED, 1)
        assert "than its timeout of 50 ms, in test_delivery_contract.py:" in status.errors[0].message
    ends = {how: await manager.get_task_status(job) for how, job in ids.items()}
    assert {how: (status.status, status.attempts, status.result) for how, status in ends.items()} == {
        "deaf": (State.COMPLETED, 1, "a part"),
        "part": (State.PENDING, 0, None),
        "done": (State.COMPLETED, 1, "all"),
    }
