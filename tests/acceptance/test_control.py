"""Control from another process: cancel, pause, timeouts."""

import re

import pytest
from workshop import tasks
from workshop.crew import STORES, is_alive

from deeper_tasks import CancelOutcome, State
from deeper_tasks.errors import JobNotCompletedError

SLOW_BEAT = {"heartbeat_seconds": 300, "lease_seconds": 1200}
"""A beat so seldom that only the notification can bring a cancel or a pause to the worker in time."""


async def _ended(manager, job):
    return (await manager.get_task_status(job)).status.is_terminal


async def _run(crew, manager, wait_until, task, *args):
    job = await manager.enqueue_task(task, args=args, max_attempts=1)
    (entry,) = await wait_until(lambda: [entry for entry in crew.journal("start") if entry.job == job])
    return job, entry


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_a_running_coroutine_is_cancelled_at_once_from_another_process(crew, manager, wait_until):
    crew.worker(**SLOW_BEAT)
    job, _ = await _run(crew, manager, wait_until, tasks.wait_for, "never")
    assert await manager.cancel_task(job, reason="not wanted") is CancelOutcome.REQUESTED
    await wait_until(lambda: _ended(manager, job), seconds=20)
    status = await manager.get_task_status(job)
    assert (status.status, status.last_error) == (State.CANCELLED, "Cancel: not wanted")
    assert crew.journal("end") == []


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_a_running_process_is_killed_with_its_own_child_by_a_cancel_from_another_process(
    crew, manager, wait_until
):
    crew.worker(**SLOW_BEAT)
    job, entry = await _run(crew, manager, wait_until, tasks.wait_in_process)
    assert await manager.cancel_task(job) is CancelOutcome.REQUESTED
    await wait_until(lambda: _ended(manager, job), seconds=20)
    assert (await manager.get_task_status(job)).status is State.CANCELLED
    # The job ends only after its code has: the process is gone now, not soon.
    assert not is_alive(entry.pid)
    assert not is_alive(entry.other)


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_a_running_thread_sees_that_it_is_cancelled_from_another_process(crew, manager, wait_until):
    crew.worker(**SLOW_BEAT)
    job, _ = await _run(crew, manager, wait_until, tasks.wait_in_thread)
    assert await manager.cancel_task(job) is CancelOutcome.REQUESTED
    await wait_until(lambda: _ended(manager, job), seconds=20)
    assert (await manager.get_task_status(job)).status is State.CANCELLED
    assert [entry.job for entry in crew.journal("cancelled")] == [job]


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_a_queue_paused_by_another_process_starts_nothing_until_it_is_resumed(crew, manager, wait_until):
    crew.worker("default:2,other:2", **SLOW_BEAT)
    await manager.result(await manager.enqueue_task(tasks.nap), timeout=30)
    await manager.queues.pause("default")
    held = await manager.enqueue_many([tasks.nap.call() for _ in range(5)])
    for _ in range(3):
        await manager.result(await manager.enqueue_task(tasks.nap, queue="other"), timeout=30)
    statistics = (await manager.get_statistics()).queues["default"]
    assert (statistics.pending, statistics.running, statistics.is_paused) == (5, 0, True)
    await manager.queues.resume("default")
    for job in held:
        await manager.result(job, timeout=30)
    assert len(crew.journal("start")) == 1 + 3 + 5


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_a_pause_gives_back_what_was_claimed_and_has_not_started(crew, manager, wait_until):
    go = crew.folder / "go"
    crew.worker("default:1", prefetch_milliseconds=60_000, **SLOW_BEAT)
    await manager.result(await manager.enqueue_task(tasks.nap), timeout=30)
    running, *held = await manager.enqueue_many([tasks.wait_for.call(str(go)), *[tasks.nap.call()] * 20])
    await wait_until(lambda: _counts(manager, pending=0, running=21))
    await manager.queues.pause("default")
    await wait_until(lambda: _counts(manager, pending=20, running=1), seconds=20)
    assert {(await manager.get_task_status(job)).attempts for job in held} == {0}
    go.touch()
    await manager.result(running, timeout=30)
    await manager.queues.resume("default")
    for job in held:
        await manager.result(job, timeout=30)


async def test_a_timeout_kills_the_process_of_a_job_with_its_own_child(crew, manager, wait_until):
    crew.worker()
    # The first such job waits for the application's import in a process of its own, and its time runs meanwhile.
    await manager.result(await manager.enqueue_task(tasks.nap_in_process), timeout=30)
    job = await manager.enqueue_task(tasks.wait_in_process, max_attempts=1, timeout_seconds=1)
    await wait_until(lambda: _ended(manager, job))
    status = await manager.get_task_status(job)
    assert (status.status, status.errors[-1].kind) == (State.DISCARDED, "TimeoutError")
    (entry,) = [entry for entry in crew.journal("start") if entry.job == job]
    assert not is_alive(entry.pid)
    assert not is_alive(entry.other)


@pytest.mark.parametrize("task", [tasks.wait_in_thread, tasks.wait_for], ids=["thread", "coroutine"])
async def test_a_timeout_ends_the_attempt_and_the_job_is_retried(crew, manager, wait_until, task):
    crew.worker()
    args = ["never"] if task is tasks.wait_for else []
    job = await manager.enqueue_task(task, args=args, max_attempts=2, timeout_seconds=0.3, retry_delay_seconds=0)
    await wait_until(lambda: _ended(manager, job))
    status = await manager.get_task_status(job)
    assert (status.status, status.attempts) == (State.DISCARDED, 2)
    assert [error.kind for error in status.errors] == ["TimeoutError"] * 2


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_a_return_after_the_timeout_has_failed_by_it_unless_the_task_accepts_it(crew, manager):
    worker = crew.worker()
    late = [await manager.enqueue_task(task) for task in (tasks.block_too_long, tasks.sleep_too_long)]
    accepted = await manager.enqueue_task(tasks.sleep_too_long_and_be_accepted)
    assert await manager.result(accepted, timeout=30) == "late"
    for job in late:
        with pytest.raises(JobNotCompletedError):
            await manager.result(job, timeout=30)
        status = await manager.get_task_status(job)
        assert (status.status, status.attempts) == (State.DISCARDED, 1)
        assert re.fullmatch(
            r"TimeoutError: ran \S+ m?s, \S+ m?s longer than its timeout of 100 ms, in tasks.py:\d+", status.last_error
        )
        assert worker.says(f"{job}: {status.last_error}")
    # Neither has cost the worker a slot.
    await manager.result(await manager.enqueue_task(tasks.nap), timeout=30)
    assert worker.stop() == 0


async def _counts(manager, *, pending, running):
    # As the store has them: what is claimed ahead is running there, and pending for an operator.
    jobs = (await manager.backend.statistics()).queues["default"].by_state
    return (jobs.get(State.PENDING, 0), jobs.get(State.RUNNING, 0)) == (pending, running)
