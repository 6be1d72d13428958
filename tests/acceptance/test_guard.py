"""A worker guards itself: against code that blocks its loop, and against code that takes its process down."""

import os
import signal

import pytest
from workshop import tasks
from workshop.crew import is_alive

from deeper_tasks import State

QUICK = {"heartbeat_seconds": 0.3, "lease_seconds": 1.2, "poll_interval_seconds": 0.2}
FALLS_OF_A_PROCESS = {
    "segfault": ("ProcessDiedError", "was ended by signal 11 (SIGSEGV)"),
    "abort": ("ProcessDiedError", "was ended by signal 6 (SIGABRT)"),
    "os._exit": ("ProcessDiedError", "exited with code 3"),
    "SIGKILL": ("ProcessDiedError", "was ended by signal 9 (SIGKILL)"),
    "sys.exit": ("SystemExit", "3"),
    "depth": ("RecursionError", "maximum recursion depth exceeded"),
    "memory": ("MemoryError", ""),
}
FALLS_OF_AN_ATTEMPT = {how: FALLS_OF_A_PROCESS[how] for how in ("sys.exit", "depth", "memory")}


@pytest.mark.timeout(90)
async def test_a_blocked_loop_is_reported_with_its_job_and_place(crew, manager, wait_until):
    worker = crew.worker(loop_stall_warning_seconds=0.3)
    go = crew.folder / "go"
    job = await manager.enqueue_task(tasks.block_once, args=[str(go)])
    await wait_until(lambda: worker.says("the event loop has been blocked for"))
    go.touch()
    await manager.result(job, timeout=30)
    await wait_until(lambda: worker.says("the event loop runs again"))
    [stalled] = [event for event in worker.events() if "has been blocked for" in str(event["message"])]
    assert stalled["level"] == "warning"
    expected = {"job_id": job, "task": "workshop.tasks.block_once", "queue": "default", "attempt": 1}
    assert stalled | expected == stalled
    place, *_ = [line for line in stalled["message"].splitlines() if "File " in line]
    assert place.endswith("in block_once")
    assert worker.stop() == 0


@pytest.mark.timeout(90)
async def test_a_loop_blocked_beyond_the_limit_ends_its_process_and_others_take_its_jobs(crew, manager, wait_until):
    blocked = crew.worker(loop_stall_warning_seconds=0.3, loop_stall_limit_seconds=0.9)
    job = await manager.enqueue_task(tasks.block_once, args=[str(crew.folder / "never")])
    await wait_until(lambda: crew.journal("start"))
    crew.worker()
    assert await manager.result(job, timeout=60) == "attempt 2"
    await wait_until(lambda: blocked.process.poll() is not None)
    assert blocked.process.returncode == os.EX_TEMPFAIL
    [critical] = [event for event in blocked.events() if event.get("level") == "critical"]
    assert "this process ends and leaves its jobs to be rescued" in critical["message"]
    assert blocked.says("by the job workshop.tasks.block_once")
    assert [error.kind for error in (await manager.get_task_status(job)).errors] == ["WorkerLost"]


@pytest.mark.timeout(90)
async def test_a_stopped_process_is_no_blocked_loop(crew, manager, wait_until):
    stopped = crew.worker(**QUICK, loop_stall_warning_seconds=0.4, loop_stall_limit_seconds=0.8)
    go = crew.folder / "go"
    job = await manager.enqueue_task(tasks.wait_for, args=[str(go)])
    await wait_until(lambda: crew.journal("start"))
    await wait_until(lambda: crew.has_stopped(stopped))
    # Another takes the job only after a lease, which is longer than the limit.
    crew.worker(**QUICK)
    await wait_until(lambda: len(crew.journal("start")) == 2)
    stopped.send(signal.SIGCONT)
    await wait_until(lambda: stopped.says("was taken for dead"))
    go.touch()
    await manager.result(job, timeout=30)
    assert stopped.stop() == 0
    assert not stopped.says("the event loop")


@pytest.mark.timeout(90)
async def test_a_process_task_takes_nothing_with_it_however_it_ends(crew, manager, wait_until):
    worker = crew.worker("default:4")
    neighbours = [
        await manager.enqueue_task(task, args=args)
        for task, args in ((tasks.wait_for, [str(crew.folder / "go")]), (tasks.wait_in_process, []))
    ]
    await wait_until(lambda: len(crew.journal("start")) == 2)
    fallen = {
        how: await manager.enqueue_task(tasks.fall_in_process, args=[how], max_attempts=2, retry_delay_seconds=0)
        for how in FALLS_OF_A_PROCESS
    }
    await wait_until(lambda: _are_all(manager, fallen.values(), State.DISCARDED))
    await _check_errors(manager, fallen, FALLS_OF_A_PROCESS)
    for each in neighbours:
        status = await manager.get_task_status(each)
        assert (status.status, status.attempts) == (State.RUNNING, 1)
    dead_letters = await manager.list_tasks(status=State.DISCARDED)
    assert {status.id for status in dead_letters.entries} == set(fallen.values())
    (crew.folder / "go").touch()
    assert (await manager.result(neighbours[0], timeout=30)) is None
    await manager.cancel_task(neighbours[1])
    await wait_until(lambda: _are_all(manager, neighbours[1:], State.CANCELLED))
    assert worker.stop() == 0
    assert crew.alive() == []


@pytest.mark.timeout(90)
@pytest.mark.parametrize("task", [tasks.fall_on_loop, tasks.fall_in_thread], ids=["coroutine", "thread"])
async def test_a_task_in_the_worker_ends_its_attempt_alone_where_python_can_catch_it(crew, manager, wait_until, task):
    worker = crew.worker("default:4")
    fallen = {
        how: await manager.enqueue_task(task, args=[how], max_attempts=2, retry_delay_seconds=0)
        for how in FALLS_OF_AN_ATTEMPT
    }
    await wait_until(lambda: _are_all(manager, fallen.values(), State.DISCARDED))
    await _check_errors(manager, fallen, FALLS_OF_AN_ATTEMPT)
    assert is_alive(worker.pid)
    assert worker.stop() == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("task", [tasks.fall_on_loop, tasks.fall_in_thread], ids=["coroutine", "thread"])
async def test_a_segfault_in_the_worker_costs_its_job_an_attempt_and_its_neighbours_nothing_but_one(
    crew, manager, wait_until, task
):
    go = crew.folder / "go"
    neighbour = await manager.enqueue_task(tasks.wait_for, args=[str(go)], max_attempts=5)
    segfault = await manager.enqueue_task(task, args=["segfault"], max_attempts=2)
    for attempt in (1, 2):
        worker = crew.worker("default:2")
        await wait_until(lambda worker=worker: worker.process.poll() is not None)
        assert worker.process.returncode == -signal.SIGSEGV
        started = [entry for entry in crew.journal("start") if entry.job == segfault]
        assert [entry.attempt for entry in started] == [*range(1, attempt + 1)]
        # From here on each has a worker to itself, one after the other: this one has no manager that can be imported.
        go.touch()
    last = crew.worker("default:2")
    await manager.result(neighbour, timeout=60)
    assert [error.kind for error in (await manager.get_task_status(neighbour)).errors] == ["WorkerLost"]
    await wait_until(lambda: _are_all(manager, [segfault], State.DISCARDED))
    status = await manager.get_task_status(segfault)
    assert [error.kind for error in status.errors] == ["WorkerLost"] * 2
    dead_letters = await manager.list_tasks(status=State.DISCARDED)
    assert [status.id for status in dead_letters.entries] == [segfault]
    assert last.stop() == 0


@pytest.mark.timeout(90)
async def test_a_job_has_the_same_idempotency_keys_after_a_rescue_a_retry_and_a_retry_by_hand(
    crew, manager, wait_until
):
    killed = crew.worker()
    job, other = [await manager.enqueue_task(tasks.charge, args=[at, 2], max_attempts=2) for at in (1, 0)]
    await wait_until(lambda: killed.process.poll() is not None)
    crew.worker()
    await wait_until(lambda: _are_all(manager, [job], State.DISCARDED))
    await manager.retry_task(job)
    await manager.result(job, timeout=30)
    keys = {entry.other for entry in crew.journal("start") if entry.job == job}
    assert {entry.attempt for entry in crew.journal("start") if entry.job == job} == {1, 2, 3}
    [of_all_attempts] = keys
    assert len(set(of_all_attempts.split())) == 2
    await wait_until(lambda: [entry for entry in crew.journal("start") if entry.job == other])
    assert keys.isdisjoint(entry.other for entry in crew.journal("start") if entry.job == other)


async def _are_all(manager, ids, state):
    return {(await manager.get_task_status(each)).status for each in ids} == {state}


async def _check_errors(manager, fallen, expected):
    for how, (kind, words) in expected.items():
        status = await manager.get_task_status(fallen[how])
        assert [error.kind for error in status.errors] == [kind] * 2
        assert words in status.last_error
