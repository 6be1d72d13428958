"""Transactional tasks have their effect in the database exactly once, however their workers end."""

import os
import random
import sqlite3
from contextlib import closing

import psycopg
import pytest
from workshop import payments
from workshop.crew import STORES

from deeper_tasks import BackgroundTaskManager, State

JOBS = 200
WORKERS = 3
KILLS = 10


@pytest.fixture
async def manager(crew):
    with closing(_connect(crew)) as connection:
        connection.execute("CREATE TABLE payment (number INTEGER)")
        connection.commit()
    async with BackgroundTaskManager(crew.url) as manager:
        manager.include(payments)
        yield manager


@pytest.fixture
def worker(crew):
    """Return a start of a worker that knows the payments."""
    return lambda queues="default:4,receipts:1", **settings: crew.worker(
        queues, include="workshop.payments", **settings
    )


@pytest.mark.timeout(90)
@pytest.mark.parametrize("crew", STORES, indirect=True)
@pytest.mark.parametrize("moment", ["in the middle", "at the commit"])
@pytest.mark.parametrize("kind", ["pay_and_die", "pay_and_die_in_thread"])
async def test_a_worker_killed_inside_a_transaction_leaves_nothing_and_the_next_does_all(
    crew, manager, worker, moment, kind
):
    task_id = await manager.enqueue_task(payments, kind, [7, moment])
    first = worker()
    assert first.process.wait(30) < 0
    assert len(crew.journal("booked")) == 1
    assert _payments(crew) == []
    assert (await manager.get_statistics()).queues.get("receipts") is None
    worker()
    assert await manager.result(task_id, timeout=60) == 7
    status = await manager.get_task_status(task_id)
    assert (status.attempts, [error.kind for error in status.errors]) == (2, ["WorkerLost"])
    assert _payments(crew) == [7]
    receipts = (await manager.list_tasks(queue="receipts")).entries
    assert [await manager.result(receipt.id, timeout=60) for receipt in receipts] == [7]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("crew", ["postgresql"], indirect=True)
@pytest.mark.parametrize("kind", ["pay_and_die", "pay_and_die_in_thread"])
async def test_a_worker_killed_before_it_heard_of_its_commit_has_done_all_and_nobody_does_it_again(
    crew, manager, worker, kind
):
    task_id = await manager.enqueue_task(payments, kind, [7, "after the commit"])
    assert worker().process.wait(30) < 0
    assert _payments(crew) == [7]
    worker("default:4,receipts:1", lease_seconds=2, heartbeat_seconds=0.5)
    assert await manager.result(task_id, timeout=60) == 7
    [receipt] = (await manager.list_tasks(queue="receipts")).entries
    assert await manager.result(receipt.id, timeout=60) == 7
    assert (await manager.get_task_status(task_id)).attempts == 1
    assert _payments(crew) == [7]
    assert len(crew.journal("booked")) == 1


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_a_return_that_is_late_or_because_the_worker_stops_leaves_nothing_unless_it_is_done(
    crew, manager, worker, wait_until
):
    # One after the other: SQLite runs one at a time.
    late = [await manager.enqueue_task(task, args=[1]) for task in (payments.pay_late, payments.pay_late_in_thread)]
    given_back = await manager.enqueue_task(payments.pay_until_stopped_in_thread, args=[2, "return"])
    first = worker("default:1")
    await wait_until(lambda: len(crew.journal("booked")) == len(late) + 1)
    assert first.stop() == 0
    for job in late:
        status = await manager.get_task_status(job)
        assert (status.status, [error.kind for error in status.errors]) == (State.DISCARDED, ["TimeoutError"])
    status = await manager.get_task_status(given_back)
    assert (status.status, status.attempts) == (State.PENDING, 0)
    assert _payments(crew) == []
    await manager.cancel_task(given_back)
    done = await manager.enqueue_task(payments.pay_until_stopped, args=[3, "done"])
    second = worker("default:1")
    await wait_until(lambda: len(crew.journal("booked")) == len(late) + 2)
    assert second.stop() == 0
    assert await manager.result(done, timeout=30) == 3
    assert _payments(crew) == [3]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_200_payments_are_each_booked_once_though_workers_are_killed_at_random(crew, manager, worker, wait_until):
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed: {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    kinds = [payments.pay, payments.pay_in_thread]
    ids = await manager.enqueue_many(
        [chance.choice(kinds).call(number, chance.choice([0, 0, 0.02])) for number in range(JOBS)]
    )
    workers = [worker() for _ in range(WORKERS)]
    for goal in sorted(chance.sample(range(5, JOBS * 9 // 10), KILLS)):
        await wait_until(lambda goal=goal: len(_payments(crew)) >= goal, seconds=60)
        place = chance.randrange(WORKERS)
        workers[place].kill()
        workers[place] = worker()
    assert [await manager.result(each, timeout=90) for each in ids] == list(range(JOBS))
    await wait_until(lambda: _completed_receipts(manager, JOBS), seconds=60)
    # One that was started last may not listen to signals yet.
    await wait_until(lambda: _are_registered(manager, workers), seconds=60)
    assert [each.stop() for each in workers] == [0] * WORKERS
    assert _payments(crew) == list(range(JOBS))
    receipts = [entry.args[0] for entry in (await manager.list_tasks(queue="receipts", per_page=500)).entries]
    assert sorted(receipts) == list(range(JOBS))
    crew.check_database()
    # Some attempts were cut short, or the test would show nothing.
    assert len(crew.journal("booked")) >= JOBS


@pytest.mark.timeout(150)
async def test_transactions_one_after_the_other_make_no_worker_look_dead(crew, manager, worker, wait_until):
    """Together they hold the file for longer than a lease, without a pause of their own."""
    workers = [worker("default:3", lease_seconds=10, heartbeat_seconds=1) for _ in range(2)]
    await wait_until(lambda: all(each.says("started") for each in workers))
    ids = await manager.enqueue_many([payments.pay_slowly.call(number) for number in range(15)])
    # An enqueue waits for one of them, not for all.
    following = await manager.enqueue_task(payments.send_receipt, args=[1])
    assert len(_payments(crew)) < len(ids)
    assert (await manager.get_task_status(following)).status is State.PENDING
    assert [await manager.result(each, timeout=120) for each in ids] == list(range(15))
    errors = [error.kind for each in ids for error in (await manager.get_task_status(each)).errors]
    assert "WorkerLost" not in errors
    assert [each.stop() for each in workers] == [0, 0]
    assert not any(each.says("taken for dead") for each in workers)
    assert _payments(crew) == list(range(15))


def _connect(crew):
    if crew.url.startswith("sqlite"):
        return sqlite3.connect(crew.database, timeout=30)
    return psycopg.connect(crew.url)


def _payments(crew):
    with closing(_connect(crew)) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM payment ORDER BY number")]


async def _completed_receipts(manager, number):
    receipts = (await manager.get_statistics()).queues.get("receipts")
    return receipts is not None and receipts.completed == number


async def _are_registered(manager, workers):
    registered = {record.node.pid for record in await manager.backend.nodes()}
    return registered >= {worker.pid for worker in workers}
