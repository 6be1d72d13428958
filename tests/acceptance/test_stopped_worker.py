"""A worker that was stopped past its lease: its jobs are another's, and it starts anew."""

import signal

import pytest
from workshop import tasks
from workshop.crew import STORES

from deeper_tasks import State

SETTINGS = {"heartbeat_seconds": 0.3, "lease_seconds": 1.2, "poll_interval_seconds": 0.2}


@pytest.mark.parametrize("crew", STORES, indirect=True)
@pytest.mark.timeout(90)
async def test_a_worker_stopped_past_its_lease_has_its_settle_refused_and_starts_anew(crew, manager, wait_until):
    go = crew.folder / "go"
    stopped = crew.worker(**SETTINGS)
    job = await manager.enqueue_task(tasks.block_once, args=[str(go)])
    await wait_until(lambda: crew.journal("start"))
    (first,) = await manager.backend.nodes()
    await wait_until(lambda: crew.has_stopped(stopped))
    rescuer = crew.worker(**SETTINGS)
    assert await manager.result(job, timeout=30) == "attempt 2"
    assert rescuer.says("rescued from the dead worker")
    second = await manager.get_task_status(job)
    assert rescuer.stop() == 0

    go.touch()
    stopped.send(signal.SIGCONT)
    await wait_until(lambda: stopped.says("job settlement refused at attempt 1"))
    await wait_until(lambda: stopped.says(f"worker {first.node.id} was taken for dead"))
    await wait_until(lambda: _is_registered_anew(manager, first))
    assert [(entry.attempt, entry.worker) for entry in crew.journal("end")] == [(2, 2), (1, 1)]
    assert await manager.get_task_status(job) == second
    assert (second.status, second.attempts, len(second.errors)) == (State.COMPLETED, 2, 1)

    (anew,) = await manager.backend.nodes()
    assert (anew.node.pid, anew.is_lost) == (stopped.pid, False)
    assert anew.node.id != first.node.id
    following = await manager.enqueue_task(tasks.wait_for, args=[str(crew.folder / "later")])
    await wait_until(lambda: following in {entry.job for entry in crew.journal("start")})
    assert (await manager.get_task_status(following)).node == anew.node.id
    (crew.folder / "later").touch()
    await manager.result(following, timeout=30)
    assert stopped.stop() == 0
    assert await manager.backend.nodes() == []


@pytest.mark.timeout(90)
async def test_a_worker_whose_loop_is_blocked_past_its_lease_keeps_its_job(crew, manager, wait_until):
    go = crew.folder / "go"
    blocked = crew.worker("blocked:1", **SETTINGS)
    job = await manager.enqueue_task(tasks.block_once, args=[str(go)], queue="blocked")
    await wait_until(lambda: crew.journal("start"))
    other = crew.worker("blocked:1", **SETTINGS)
    (beat,) = [record.beat for record in await manager.backend.nodes() if record.node.pid == blocked.pid]

    async def has_beaten_for_two_leases():
        beats = [record.beat for record in await manager.backend.nodes() if record.node.pid == blocked.pid]
        return beats[0] - beat >= 2 * SETTINGS["lease_seconds"] / SETTINGS["heartbeat_seconds"]

    await wait_until(has_beaten_for_two_leases)
    go.touch()
    assert await manager.result(job, timeout=30) == "attempt 1"
    assert not other.says("rescued")


async def _is_registered_anew(manager, lost):
    return [record.node.id for record in await manager.backend.nodes()] not in ([], [lost.node.id])
