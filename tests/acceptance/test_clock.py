"""The machine's clock is set back, or far ahead and right again: no job is lost, run twice or taken from its worker."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from workshop import tasks
from workshop.wrong_clock import set_clock, wrong_by

from deeper_tasks import State

HOUR, DAY = 3600, 86_400
YEAR = 365 * DAY
EACH = 20
SETTINGS = {
    "queues": "default:4,long:2",
    "heartbeat_seconds": 0.3,
    "lease_seconds": 3,
    "poll_interval_seconds": 0.1,
    "cleanup_interval_seconds": 0.1,
}
STEPS = {"an hour back": -HOUR, "a day back": -DAY, "a year ahead": YEAR}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def clock(crew, monkeypatch):
    """Return what sets the clock of this process and of all workers of the test: they are on one machine."""
    file = crew.folder / "clock"
    monkeypatch.setattr(time, "time_ns", wrong_by(file))
    return lambda seconds: set_clock(file, seconds)


@pytest.fixture
async def workers(crew, clock, manager, wait_until):
    workers = [crew.start("workshop.wrong_clock", **SETTINGS) for _ in range(2)]
    await wait_until(lambda: all(worker.says("started") for worker in workers))
    return workers


async def run_all(manager, count=EACH):
    ids = [await manager.enqueue_task(tasks.nap) for _ in range(count)]
    for each in ids:
        await manager.result(each, timeout=60)
    return ids


def starts(crew):
    return sorted(entry.job for entry in crew.journal("start"))


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.usefixtures("workers")
async def test_jobs_run_once_each_across_a_step_of_the_clock_and_back_and_stay_with_their_worker(
    crew, clock, manager, wait_until, step
):
    go = crew.folder / "go"
    long = await manager.enqueue_task(tasks.wait_for, args=[str(go)], queue="long")
    await wait_until(lambda: crew.journal("start"))
    ids = await run_all(manager)
    clock(step)
    # One that is claimed by the wrong clock, and ends by the right one.
    across = await manager.enqueue_task(tasks.wait_for, args=[str(go)], queue="long")
    await wait_until(lambda: across in starts(crew))
    ids += await run_all(manager)
    await a_lease(manager, wait_until)
    clock(0)
    ids += await run_all(manager)
    await a_lease(manager, wait_until)
    go.touch()
    for each in (long, across):
        await manager.result(each, timeout=60)
    assert starts(crew) == sorted([*ids, long, across])
    for each in (*ids, long, across):
        assert (await manager.get_task_status(each)).attempts == 1
    assert not any(worker.says("rescued") or worker.says("taken for dead") for worker in crew.members)
    assert [worker.stop() for worker in crew.members] == [0, 0]
    crew.check_database()


async def test_a_scheduled_job_waits_for_the_clock_as_it_is_and_runs_once(crew, clock, manager, workers, wait_until):
    soon = await manager.schedule_task(tasks.nap, args=[], scheduled_at=timedelta(minutes=10))
    clock(-HOUR)
    await run_all(manager)
    await a_lease(manager, wait_until)
    assert (await manager.get_task_status(soon)).status is State.SCHEDULED
    clock(HOUR)
    await manager.result(soon, timeout=60)
    clock(0)
    await run_all(manager)
    assert starts(crew).count(soon) == 1
    moment = datetime.now(UTC) + timedelta(days=30)
    later = await manager.schedule_task(tasks.nap, args=[], scheduled_at=moment)
    assert (await manager.get_task_status(later)).status is State.SCHEDULED


async def test_ended_jobs_are_not_deleted_by_a_clock_that_was_a_year_ahead_for_a_moment(
    crew, clock, manager, workers, wait_until
):
    ids = await run_all(manager)
    clock(YEAR)
    await wait_until(lambda: all(worker.says("the store's clock has stepped by 365 d 0 h") for worker in workers))
    ids += await run_all(manager)
    clock(0)
    ids += await run_all(manager)
    await a_lease(manager, wait_until)
    assert (await manager.list_tasks(status="completed")).total_entries == len(ids) == 3 * EACH


async def test_unique_keys_and_the_figures_of_today_go_by_the_clock_as_it_is(clock, manager):
    async def enqueue():
        return await manager.enqueue_task(tasks.nap, unique_for_seconds=HOUR)

    async def ended_today():
        return (await manager.backend.statistics()).queues["default"].ended_today

    first = await enqueue()
    clock(-DAY)
    assert await enqueue() == first
    await manager.cancel_task(first)
    assert await ended_today() == {State.CANCELLED: 1}
    clock(2 * HOUR)
    second = await enqueue()
    assert second.is_new
    clock(YEAR)
    assert await ended_today() == {}
    third = await enqueue()
    assert third.is_new
    clock(0)
    assert await enqueue() == third
    assert {(await manager.get_task_status(each)).status for each in (second, third)} == {State.PENDING}


async def a_lease(manager, wait_until):
    """Wait until each worker has beaten for longer than a lease: time enough for one to look dead."""
    beats = {record.node.id: record.beat for record in await manager.backend.nodes()}
    enough = 1.3 * SETTINGS["lease_seconds"] / SETTINGS["heartbeat_seconds"]

    async def have_all_beaten():
        return all(record.beat >= beats[record.node.id] + enough for record in await manager.backend.nodes())

    await wait_until(have_all_beaten, seconds=60)
