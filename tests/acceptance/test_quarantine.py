"""Jobs that kill their worker: they do it once, and what ran beside them loses one attempt at most."""

import signal

import pytest
from workshop import perilous

from deeper_tasks import BackgroundTaskManager, State

ENDED = (State.COMPLETED, State.FAILED, State.DISCARDED, State.CANCELLED)
SOON = {"heartbeat_seconds": 1, "lease_seconds": 4, "poll_interval_seconds": 0.05}


@pytest.fixture
async def manager(crew):
    async with BackgroundTaskManager(crew.url) as manager:
        for task in perilous.manager.registry:
            manager.registry.add(task)
        yield manager


def start_worker(crew, queues="default:10", **settings):
    return crew.start(
        "deeper_tasks.cli", "worker", "workshop.perilous:manager", "--json", queues=queues, **SOON, **settings
    )


async def statuses(manager, ids):
    return [await manager.get_task_status(each) for each in ids]


async def have_ended(manager, ids):
    return all(status.status in ENDED for status in await statuses(manager, ids))


async def a_worker_that_was_killed(crew, manager, wait_until, *calls, neighbours=()):
    """Run the calls and their neighbours in a worker until it is dead; returns the ids of the jobs."""
    ids = await manager.enqueue_many([*calls, *neighbours])
    worker = start_worker(crew)
    await wait_until(lambda: len({entry.job for entry in crew.journal("start")}) == len(ids))
    (crew.folder / "go").touch()
    await wait_until(lambda: worker.process.poll() is not None)
    return ids[: len(calls)], ids[len(calls) :]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("crew", "how"), [("sqlite", "segfault"), ("postgresql", "SIGKILL")], indirect=["crew"])
async def test_jobs_that_kill_their_worker_do_it_once_and_their_neighbours_lose_one_attempt(
    crew, manager, wait_until, how
):
    go = str(crew.folder / "go")
    killers = [perilous.die_on_loop.call(how, go), perilous.die_in_thread.with_options(max_attempts=2).call(how, go)]
    killers, neighbours = await a_worker_that_was_killed(
        crew, manager, wait_until, *killers, neighbours=[task.call() for task in perilous.LINGERERS]
    )
    worker = start_worker(crew)
    await wait_until(lambda: have_ended(manager, [*killers, *neighbours]), seconds=90)
    assert worker.process.poll() is None
    for status, attempts in zip(await statuses(manager, killers), (3, 2), strict=True):
        assert (status.status, status.attempts) == (State.DISCARDED, attempts)
        assert [error.kind for error in status.errors] == ["WorkerLost", *["ProcessDiedError"] * (attempts - 1)]
    apart = [entry.pid for entry in crew.journal("start") if entry.attempt > 1]
    for status in await statuses(manager, neighbours):
        assert (status.status, status.attempts, len(status.errors)) == (State.COMPLETED, 2, 1)
        assert status.result in apart
    # Each was alone in its process, which had run the start hooks.
    assert len(apart) == len(set(apart)) == 3 + 3
    assert worker.pid not in apart
    assert {entry.pid for entry in crew.journal("middleware") if entry.attempt > 1} == set(apart)
    assert all(entry.other == entry.pid for entry in crew.journal("middleware") if entry.attempt > 1)
    assert worker.stop() == 0
    assert crew.alive() == []


@pytest.mark.timeout(90)
async def test_a_single_attempt_that_killed_its_worker_is_not_run_again_and_retried_by_hand_it_dies_alone(
    crew, manager, wait_until
):
    killer = perilous.die_on_loop.with_options(max_attempts=1).call("SIGKILL", str(crew.folder / "go"))
    (killer,), _ = await a_worker_that_was_killed(crew, manager, wait_until, killer)
    worker = start_worker(crew)
    await wait_until(lambda: have_ended(manager, [killer]))
    [status] = await statuses(manager, [killer])
    assert (status.status, status.attempts) == (State.DISCARDED, 1)
    assert len(crew.journal("start")) == 1
    await manager.retry_task(killer)
    await wait_until(lambda: have_ended(manager, [killer]))
    [status] = await statuses(manager, [killer])
    assert (status.status, [error.kind for error in status.errors]) == (
        State.DISCARDED,
        ["WorkerLost", "ProcessDiedError"],
    )
    assert worker.stop() == 0


@pytest.mark.timeout(90)
async def test_a_worker_that_stops_gives_a_quarantined_job_back_and_it_stays_in_quarantine(crew, manager, wait_until):
    killer = perilous.die_on_loop.call("SIGKILL", str(crew.folder / "go"))
    (killer,), _ = await a_worker_that_was_killed(crew, manager, wait_until, killer)
    (crew.folder / "go").unlink()
    worker = start_worker(crew, shutdown_grace_seconds=0.2)
    await wait_until(lambda: [entry for entry in crew.journal("start") if entry.attempt == 2])
    assert worker.stop() == 0
    assert crew.alive() == []
    [status] = await statuses(manager, [killer])
    assert (status.status, status.attempts) == (State.PENDING, 1)
    (crew.folder / "go").touch()
    worker = start_worker(crew)
    await wait_until(lambda: have_ended(manager, [killer]))
    assert worker.stop() == 0
    assert worker.pid not in {entry.pid for entry in crew.journal("start")}


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("crew", "has_place"), [("sqlite", False), ("postgresql", True)], indirect=["crew"], ids=["no place", "transaction"]
)
async def test_a_killer_that_cannot_have_a_process_of_its_own_runs_with_no_other_job_beside_it(
    crew, manager, wait_until, has_place
):
    go, done = crew.folder / "go", crew.folder / "done"
    task = perilous.die_in_transaction if has_place else perilous.die_on_loop
    killer = task.with_options(max_attempts=2).call("SIGKILL", str(go))
    (killer,), _ = await a_worker_that_was_killed(crew, manager, wait_until, killer)
    go.unlink()
    # The first jobs here stand in the killer's way; it does not start before they have ended.
    stay = await manager.enqueue_task(perilous.stay, args=[str(done)], priority=-1)
    worker = start_worker(crew) if has_place else crew.worker("default:10", include="workshop.perilous", **SOON)
    await wait_until(lambda: worker.says("job waiting to run alone"))
    done.touch()
    await wait_until(lambda: [entry for entry in crew.journal("start") if entry.attempt == 2])
    assert worker.says("job runs in quarantine after its worker died, with no other job beside it")
    assert worker.says("because no process can be made for it") is not has_place
    later = await manager.enqueue_task(perilous.stay, args=[str(done)])
    go.touch()
    await wait_until(lambda: worker.process.poll() is not None)
    assert worker.process.returncode == -signal.SIGKILL
    assert [entry.job for entry in crew.journal("end")] == [stay]
    start_worker(crew)
    await wait_until(lambda: have_ended(manager, [killer, stay, later]))
    killed, *others = await statuses(manager, [killer, stay, later])
    assert (killed.status, killed.attempts) == (State.DISCARDED, 2)
    assert [(status.status, status.attempts) for status in others] == [(State.COMPLETED, 1)] * 2
