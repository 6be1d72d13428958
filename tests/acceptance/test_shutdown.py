"""A worker that is told to stop: it ends in order, leaves no process, and no job pays for it."""

import signal

import pytest
from workshop import fleet, tasks
from workshop.crew import STORES

from deeper_tasks import State

AHEAD = {"prefetch_milliseconds": 60_000}
"""Short jobs are claimed a minute ahead: all that wait are in the worker's hands."""


async def _counts(manager, *, pending, running):
    # As the store has them: what is claimed ahead is running there, and pending for an operator.
    jobs = (await manager.backend.statistics()).queues["default"].by_state
    return (jobs.get(State.PENDING, 0), jobs.get(State.RUNNING, 0)) == (pending, running)


async def _busy(crew, manager, wait_until, *calls, slots, waiting=20, **settings):
    """Return a worker that runs `calls` and holds jobs that wait behind them, and the ids of both."""
    worker = crew.worker(f"default:{slots}", **AHEAD, **settings)
    await manager.result(await manager.enqueue_task(tasks.nap), timeout=30)
    ids = await manager.enqueue_many([*calls, *[tasks.nap.call()] * waiting])
    await wait_until(lambda: _counts(manager, pending=0, running=len(ids)))
    await wait_until(lambda: {entry.job for entry in crew.journal("start")} >= set(ids[: len(calls)]))
    return worker, ids[: len(calls)], ids[len(calls) :]


async def _is_given_back(manager, job):
    status = await manager.get_task_status(job)
    return (status.status, status.attempts, status.errors) == (State.PENDING, 0, ())


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_sigterm_lets_running_jobs_end_and_gives_back_those_that_wait(crew, manager, wait_until):
    go = crew.folder / "go"
    worker, (running,), waiting = await _busy(crew, manager, wait_until, tasks.wait_for.call(str(go)), slots=1)
    worker.send(signal.SIGTERM)
    await wait_until(lambda: _counts(manager, pending=len(waiting), running=1))
    assert all([await _is_given_back(manager, job) for job in waiting])
    assert worker.process.poll() is None
    go.touch()
    assert worker.process.wait(30) == 0
    assert worker.says("stopping, 1 job still running")
    status = await manager.get_task_status(running)
    assert (status.status, status.attempts) == (State.COMPLETED, 1)
    assert await _counts(manager, pending=len(waiting), running=0)
    assert crew.alive() == []
    assert await manager.backend.nodes() == []


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_when_the_grace_is_over_the_rest_is_given_back_without_an_attempt(crew, manager, wait_until):
    calls = [tasks.wait_for.call("never"), tasks.wait_in_thread.call(), tasks.wait_in_process.call()]
    worker, running, waiting = await _busy(crew, manager, wait_until, *calls, slots=3, shutdown_grace_seconds=0.5)
    assert worker.stop() == 0
    assert all([await _is_given_back(manager, job) for job in [*running, *waiting]])
    assert await _counts(manager, pending=len(running) + len(waiting), running=0)
    assert crew.alive() == []


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_a_job_that_ends_early_because_of_sigterm_is_given_back_unless_it_says_it_is_done(
    crew, manager, wait_until
):
    calls = [
        task.call(how)
        for task in (tasks.finish_early_on_loop, tasks.finish_early_in_thread, tasks.finish_early_in_process)
        for how in ("return", "check", "done")
    ]
    # The process ones need a moment to start.
    worker, running, waiting = await _busy(crew, manager, wait_until, *calls, slots=9, shutdown_grace_seconds=60)
    assert worker.stop() == 0
    for job, call in zip(running, calls, strict=True):
        status = await manager.get_task_status(job)
        if call.args == ("done",):
            assert (status.status, status.result, status.attempts) == (State.COMPLETED, "all", 1)
        else:
            assert (status.status, status.attempts, status.errors) == (State.PENDING, 0, ())
            assert worker.says(f"job released (worker shutting down): {status.task} {job}")
    assert await _counts(manager, pending=len(waiting) + 6, running=0)
    assert crew.alive() == []


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_gives_everything_back_at_once(crew, manager, wait_until, second):
    calls = [tasks.wait_for.call("never"), tasks.wait_in_process.call()]
    worker, running, waiting = await _busy(crew, manager, wait_until, *calls, slots=2, shutdown_grace_seconds=3600)
    worker.send(signal.SIGINT)
    await wait_until(lambda: _counts(manager, pending=len(waiting), running=len(running)))
    worker.send(second)
    assert worker.process.wait(30) == 0
    assert all([await _is_given_back(manager, job) for job in [*running, *waiting]])
    assert crew.alive() == []


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_a_thread_that_does_not_look_costs_its_job_no_attempt(crew, manager, wait_until):
    made = fleet.Fleet(crew, "--grace", "0", application="workshop.hasty:manager")
    job = await manager.enqueue_task(fleet.run_on, args=["never"])
    await wait_until(lambda: crew.journal("start"))
    assert made.member.stop() == 0
    status = await manager.get_task_status(job)
    assert (status.status, status.attempts, status.errors) == (State.SCHEDULED, 0, ())
    assert made.member.says(f"the job {job} did not stop; its process ends with it")
    assert await manager.backend.nodes() == []


async def test_jobs_that_a_worker_gave_back_run_in_the_next(crew, manager, wait_until):
    worker, _, waiting = await _busy(
        crew, manager, wait_until, tasks.wait_for.call("never"), slots=1, shutdown_grace_seconds=0
    )
    assert worker.stop() == 0
    crew.worker("default:4")
    for job in waiting:
        await manager.result(job, timeout=30)
        assert (await manager.get_task_status(job)).attempts == 1
