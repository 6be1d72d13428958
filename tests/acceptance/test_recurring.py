"""Recurring tasks: each due time fires once, however many workers look and whichever of them dies."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from workshop import tasks
from workshop.crew import STORES

from deeper_tasks import RunOutcome
from deeper_tasks.domain.ids import derived_id

SECONDS = 6
RUNS, KILL_EVERY = 12, 2
NAMES = ("one", "two", "three")


@pytest.mark.parametrize("crew", STORES, indirect=True)
@pytest.mark.timeout(90)
async def test_three_workers_fire_each_second_of_each_entry_exactly_once_though_one_is_killed(
    crew, manager, wait_until
):
    workers = [crew.worker() for _ in range(3)]
    await wait_until(lambda: all(worker.says("started") for worker in workers))
    for name in NAMES:
        await manager.schedule_recurring_task(
            name, tasks.nap, cron_expression="* * * * * *", missed_runs="all", queue="default", tags=[name]
        )

    async def fired():
        by_name = defaultdict(list)
        for status in (await manager.list_tasks(per_page=1000)).entries:
            by_name[status.tags[0]].append(status)
        return by_name

    async def has_fired(times):
        by_name = await fired()
        return all(len(by_name[name]) >= times for name in NAMES)

    await wait_until(lambda: has_fired(SECONDS // 2))
    workers[0].kill()
    await wait_until(lambda: has_fired(SECONDS))
    for name in NAMES:
        await manager.cancel_recurring_task(name)

    async def all_ended():
        queue = (await manager.get_statistics()).queues["default"]
        return queue.pending == queue.running == 0

    await wait_until(all_ended)
    said = [job for worker in workers for event in worker.events() for job in event.get("jobs", [])]
    assert len(said) == len(set(said)), "two workers fired the same run"
    for name, runs in (await fired()).items():
        assert {status.status for status in runs} == {"completed"}
        due = sorted(_due(status.id) for status in runs)
        assert due == [due[0] + timedelta(seconds=number) for number in range(len(due))]
        assert {status.id for status in runs} == {derived_id(name, moment) for moment in due}
    assert [worker.stop() for worker in workers[1:]] == [0, 0]


@pytest.mark.timeout(240)
async def test_each_due_time_has_one_job_and_the_history_agrees_though_workers_are_killed_again_and_again(
    crew, manager, wait_until
):
    workers = [crew.worker() for _ in range(2)]
    await wait_until(lambda: all(worker.says("started") for worker in workers))
    await manager.schedule_recurring_task("tick", tasks.nap, cron_expression="* * * * * *", missed_runs="all")

    async def fired():
        runs = await manager.recurring_task_history("tick", limit=100)
        return [run for run in reversed(runs) if run.outcome is RunOutcome.FIRED]

    async def has_fired(times):
        return len(await fired()) >= times

    for times in range(KILL_EVERY, RUNS, KILL_EVERY):
        await wait_until(lambda times=times: has_fired(times), seconds=60)
        workers[0].kill()
        workers.append(crew.worker())
        if times == KILL_EVERY * 2:
            workers[1].kill()  # for once, nobody is there
        workers = [worker for worker in workers if worker.killed_at is None]
    await wait_until(lambda: has_fired(RUNS), seconds=60)
    await manager.pause_recurring_task("tick")

    async def all_ended():
        return all(run.status is not None and run.status.is_terminal for run in await fired())

    await wait_until(all_ended, seconds=60)
    runs = await fired()
    assert len(runs) >= RUNS
    assert [run.due_at for run in runs] == [runs[0].due_at + timedelta(seconds=number) for number in range(len(runs))]
    assert [run.task_id for run in runs] == [derived_id("tick", run.due_at) for run in runs]
    assert all(run.fired_at >= run.due_at for run in runs)
    jobs = (await manager.list_tasks(per_page=1000)).entries
    assert {job.id: job.status for job in jobs} == {run.task_id: run.status for run in runs}
    assert {job.status for job in jobs} == {"completed"}
    assert len(await manager.recurring_task_history("tick", limit=100)) == len(runs)
    assert {entry.job for entry in crew.journal("end")} == {run.task_id for run in runs}
    assert [worker.stop() for worker in workers] == [0] * len(workers)


async def test_a_declared_task_runs_by_itself_and_leaves_with_the_code_that_declared_it(
    crew, manager, wait_until, monkeypatch
):
    worker = crew.worker("default:4", "workshop.clockwork")
    await wait_until(lambda: len({entry.job for entry in crew.journal("end")}) >= 2)
    [entry] = await manager.list_recurring_tasks()
    assert (entry.name, entry.is_declared) == ("workshop.clockwork.tick", True)
    assert worker.stop() == 0

    # Another application on the same store does not know the task, and leaves it alone.
    other = crew.worker()
    await wait_until(lambda: other.says("is not known here"))
    assert [entry.name for entry in await manager.list_recurring_tasks()] == ["workshop.clockwork.tick"]
    assert other.stop() == 0

    # The next version of the application that had declared it has the task without its cron.
    monkeypatch.setenv("WORKSHOP_VERSION", "2")
    later = crew.worker("default:4", "workshop.clockwork")
    await wait_until(lambda: later.says("because the code no longer declares it"))
    assert await manager.list_recurring_tasks() == []
    assert later.stop() == 0


def _due(job):
    """Return the due time that the id of a recurring task's job is derived from."""
    return datetime.fromtimestamp(int(job.replace("-", "")[:12], 16) / 1000, UTC)
