"""Recurring tasks: each due time fires once, however many workers look and whichever of them dies."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from workshop import tasks

from deeper_tasks.domain.ids import derived_id

SECONDS = 6
NAMES = ("one", "two", "three")


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


def _due(job):
    """Return the due time that the id of a recurring task's job is derived from."""
    return datetime.fromtimestamp(int(job.replace("-", "")[:12], 16) / 1000, UTC)
