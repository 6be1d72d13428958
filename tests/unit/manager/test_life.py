"""The manager's life: opening, several loops, forks, threads, workers in this process, and being switched off."""

import asyncio
import inspect
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path

import pytest

from deeper_tasks import BackgroundTaskManager, current_job
from deeper_tasks.backends.sqlite.schema import known_migrations
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendUnavailableError, ConfigError, JobNotFoundError, UnsupportedError
from deeper_tasks.integrations.events import JobCompleted, JobEnqueued, StoreMade, WorkerStarted
from deeper_tasks.manager.areas import Area
from deeper_tasks.manager.facade import Facade


def with_task(manager):
    @manager.task(name="shop.double")
    async def double(number: int):
        return 2 * number

    return double


async def test_the_first_use_opens_the_store(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)
    task_id = await double.enqueue(1)
    assert (await manager.get_task_status(task_id)).args == [1]
    await manager.close()


async def test_a_new_store_is_told_of_by_the_manager_that_made_it_and_again_by_its_worker(
    tmp_path, working, wait_until
):
    path, heard = tmp_path / "tasks.db", []
    for _ in range(2):
        manager = BackgroundTaskManager(f"sqlite:///{path}")
        manager.subscribe(heard.append, StoreMade)
        async with manager, working(manager) as worker:
            await wait_until(lambda worker=worker: worker.is_ready)
    url = f"sqlite:///{path}"
    assert heard == [StoreMade(place=str(path), url=url), StoreMade(place=str(path), url=url, is_worker=True)]


@pytest.mark.parametrize("file", ["tasks.db", "./data/tasks.db"])
@pytest.mark.parametrize("kind", ["of the program", "of the program, as the empty path", "elsewhere", "absolute"])
def test_a_new_store_in_a_folder_that_is_not_the_program_s_is_doubted(tmp_path, monkeypatch, file, kind):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    folders = {"of the program": [str(tmp_path)], "of the program, as the empty path": [""]}
    monkeypatch.setattr(sys, "path", [*folders.get(kind, []), *(entry for entry in sys.path if entry)])
    heard = []
    manager = BackgroundTaskManager(f"sqlite:///{tmp_path / file if kind == 'absolute' else file}")
    manager.subscribe(heard.append, StoreMade)
    with manager.sync:
        assert [event.is_elsewhere for event in heard] == [kind == "elsewhere"]


async def test_a_closed_manager_opens_again_at_the_next_use(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)
    async with manager:
        task_id = await double.enqueue(1)
    await manager.close()
    assert (await manager.get_task_status(task_id)).status is State.PENDING
    await manager.close()


async def test_many_first_uses_at_once_are_one_opening(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)
    await asyncio.gather(*(double.enqueue(number) for number in range(10)), *(manager.list_tasks() for _ in range(10)))
    assert (await manager.list_tasks()).total_entries == 10
    await manager.close()


def test_a_manager_serves_several_loops_in_turn(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)
    ids = [asyncio.run(double.enqueue(number)) for number in range(3)]

    async def look():
        return [(await manager.get_task_status(task_id)).args for task_id in ids]

    assert asyncio.run(look()) == [[0], [1], [2]]
    asyncio.run(manager.close())


def test_a_manager_serves_several_loops_at_once(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)
    asyncio.run(manager.open())
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda number: asyncio.run(double.enqueue(number)), range(20)))
    assert len(set(ids)) == 20
    asyncio.run(manager.close())


async def test_a_store_is_not_made_by_a_look_that_asks_for_none(tmp_path):
    manager = BackgroundTaskManager(f"sqlite:///{tmp_path}/tasks.db")
    with pytest.raises(BackendUnavailableError, match="there is no database"):
        await manager.open(create=False)
    assert list(tmp_path.iterdir()) == []


async def test_migrating_returns_what_it_applied(tmp_path):
    manager = BackgroundTaskManager(f"sqlite:///{tmp_path}/tasks.db")
    assert await manager.migrate() == tuple(step.name for step in known_migrations())
    assert await manager.migrate() == ()
    await manager.close()


def test_a_repr_hides_passwords():
    manager = BackgroundTaskManager("memory://")
    assert repr(manager) == "<BackgroundTaskManager memory://>"


async def test_another_store_can_be_used_before_the_first_use(tmp_path):
    manager = BackgroundTaskManager("memory://")
    double = with_task(manager)
    manager.use_store(f"sqlite:///{tmp_path}/tasks.db")
    async with manager:
        await double.enqueue(1)
        with pytest.raises(ConfigError, match="open"):
            manager.use_store("memory://")
    assert (tmp_path / "tasks.db").is_file()


# Switched off.


@pytest.mark.parametrize("settings", [{"url": "sqlite:///unused.db", "enabled": False}, {"url": "noop://"}])
async def test_switched_off_it_takes_everything_and_does_nothing(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with BackgroundTaskManager(**settings) as manager:
        double = with_task(manager)
        task_id = await double.enqueue(1)
        assert task_id.is_new
        assert len(await manager.enqueue_many([double.call(number) for number in range(3)])) == 3
        entry = await manager.schedule_recurring_task("nightly", double, None, [1], "@daily")
        assert entry.next_run.hour == 0
        assert [entry.name for entry in await manager.declare_recurring_tasks()] == []
        assert await manager.compact_store() == 0
        # What it has accepted it knows nothing of, whichever way it is asked.
        questions = {
            "get_task_status": (task_id,),
            "result": (task_id,),
            "cancel_task": (task_id,),
            "retry_task": (task_id,),
            "delete_task": (task_id,),
            "reschedule_task": (task_id, 5),
            "run_task_now": (task_id,),
            "expand_task_id": (task_id,),
            "shorten_task_ids": ([task_id],),
            "queues.pause": ("default",),
            "queues.resume": ("default",),
            "cancel_recurring_task": ("nightly",),
            "pause_recurring_task": ("nightly",),
            "resume_recurring_task": ("nightly",),
            "get_recurring_task": ("nightly",),
            "run_recurring_task": ("nightly",),
            "recurring_task_history": ("nightly",),
        } | dict.fromkeys(
            [
                "list_tasks",
                "list_dead_letters",
                "get_statistics",
                "get_overview",
                "cancel_tasks",
                "retry_tasks",
                "delete_tasks",
                "cleanup_old_tasks",
                "list_recurring_tasks",
                "list_removed_recurring_tasks",
            ],
            (),
        )
        for name, args in questions.items():
            with pytest.raises(UnsupportedError, match="tasks are disabled here"):
                await attrgetter(name)(manager)(*args)
            with pytest.raises(UnsupportedError, match="tasks are disabled here"):
                await asyncio.to_thread(attrgetter(name)(manager.sync), *args)
        told = {
            name
            for name, method in inspect.getmembers(Facade, inspect.iscoroutinefunction)
            if not name.startswith("_") and name not in ACCEPTED
        } | {
            f"{namespace}.{name}"
            for namespace, area in vars(manager).items()
            if isinstance(area, Area)
            for name, _ in inspect.getmembers(area, inspect.iscoroutinefunction)
            if not name.startswith("_")
        }
        assert told == questions.keys()
        await asyncio.to_thread(manager.sync.close)
    assert list(tmp_path.iterdir()) == []


ACCEPTED = {
    "open",
    "close",
    "migrate",
    "migration_script",
    "enqueue_task",
    "schedule_task",
    "enqueue_many",
    "enqueue_request",
    "schedule_recurring_task",
    "declare_recurring_tasks",
    "compact_store",
    "diagnose",
}


async def test_a_worker_where_tasks_are_switched_off_waits_and_stops(working):
    async with BackgroundTaskManager("sqlite:///unused.db", enabled=False, poll_interval_seconds=0.01) as manager:
        double = with_task(manager)
        async with working(manager):
            await double.enqueue(1)


# A worker in this process.


async def test_a_worker_runs_what_is_enqueued(manager, working):
    double = with_task(manager)
    heard = []
    manager.subscribe(heard.append, WorkerStarted, JobCompleted)
    async with working(manager) as worker:
        assert await manager.result(await double.enqueue(21), timeout=20) == 42
        assert worker.is_ready
    assert [type(event) for event in heard] == [WorkerStarted, JobCompleted]
    assert not worker.is_stuck


async def test_a_worker_serves_the_queues_that_it_is_given(manager, working):
    double = with_task(manager)
    other = await double.with_options(queue="other").enqueue(1)
    async with working(manager, {"mail": 2}):
        assert await manager.result(await double.with_options(queue="mail").enqueue(2), timeout=20) == 4
    assert (await manager.get_task_status(other)).status is State.PENDING


async def test_middleware_of_the_manager_stands_around_each_attempt(manager, working):
    double = with_task(manager)
    seen = []

    @manager.middleware
    async def around(job, proceed):
        seen.append((job.id, current_job() if job is None else job.task))
        return await proceed()

    async with working(manager):
        task_id = await double.enqueue(1)
        await manager.result(task_id, timeout=20)
    assert seen == [(task_id, "shop.double")]


async def test_a_delayed_job_and_a_recurring_one_run_when_they_are_due(manager, working, wait_until):
    double = with_task(manager)
    async with working(manager):
        task_id = await manager.schedule_task(double, args=[4], scheduled_at=0.05)
        assert await manager.result(task_id, timeout=20) == 8
        await manager.schedule_recurring_task("often", double, None, [5], "@every 1s")

        async def has_run():
            return (await manager.get_recurring_task("often")).last_task_id

        recurring = await wait_until(has_run)
        assert await manager.result(recurring, timeout=20) == 10


async def test_a_signal_stops_the_worker_in_order(manager, wait_until):
    double = with_task(manager)
    before = signal.getsignal(signal.SIGTERM)
    started = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(manager.run_worker(on_start=started.set_result))
    await started
    assert await manager.result(await double.enqueue(1), timeout=20) == 2
    os.kill(os.getpid(), signal.SIGTERM)
    worker = await asyncio.wait_for(running, 20)
    assert not worker.is_ready
    assert signal.getsignal(signal.SIGTERM) == before


# The blocking facade.


def test_the_blocking_facade_has_every_method_with_the_same_signature():
    manager = BackgroundTaskManager("memory://")
    blocking = type(manager.sync)
    methods = {
        name
        for name, method in inspect.getmembers(BackgroundTaskManager, inspect.iscoroutinefunction)
        if not name.startswith("_") and name not in {"run_worker", "enqueue_request"}
    }
    assert methods <= {name for name in dir(blocking) if not name.startswith("_")}
    for name in methods - {"close"}:
        assert inspect.signature(getattr(blocking, name)) == inspect.signature(getattr(BackgroundTaskManager, name))
        assert not inspect.iscoroutinefunction(getattr(blocking, name))


def test_the_blocking_facade_does_all_that_the_other_does(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)
    with manager.sync as sync:
        task_id = double.sync.enqueue(1)
        assert task_id.is_new
        assert sync.get_task_status(task_id).status is State.PENDING
        assert len(sync.enqueue_many([double.call(2), double.call(3)])) == 2
        later = sync.schedule_task(double, args=[4], scheduled_at=60)
        assert sync.list_tasks(status="scheduled").entries[0].id == later
        assert sync.cancel_task(later) == "cancelled"
        sync.retry_task(later)
        sync.schedule_recurring_task("nightly", double, None, [1], "@daily")
        assert [entry.name for entry in sync.list_recurring_tasks()] == ["nightly"]
        assert sync.run_recurring_task("nightly").is_new
        sync.cancel_recurring_task("nightly")
        sync.queues.pause("default")
        assert sync.get_statistics().queues["default"].is_paused
        sync.queues.resume("default")
        with pytest.raises(TimeoutError, match="it is pending; no live worker"):
            sync.result(task_id, timeout=0.01)
        with pytest.raises(JobNotFoundError, match="UUID"):
            sync.get_task_status("42")
        assert sync.cancel_tasks() == 5
        assert sync.retry_tasks(status="cancelled") == 5
        sync.delete_task(task_id)
        assert sync.delete_tasks() == 4
        assert sync.cleanup_old_tasks() == 0
        assert sync.migrate() == ()


async def test_the_blocking_facade_works_inside_a_running_loop(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)
    task_id = manager.sync.enqueue_task(double, args=[1])
    assert (await manager.get_task_status(task_id)).args == [1]
    manager.sync.close()


def test_the_blocking_facade_serves_several_threads(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)
    # Another test's manager may still have its thread.
    before = set(threading.enumerate())

    def threads_of_calls():
        return [thread for thread in set(threading.enumerate()) - before if thread.name == "deeper-sync"]

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: manager.sync.enqueue_task(double, args=[number]), range(40)))
    assert len(set(ids)) == 40
    assert len(threads_of_calls()) == 1
    manager.sync.close()
    assert not threads_of_calls()


def test_a_blocking_call_in_the_thread_that_would_carry_it_out_is_refused_and_not_waited_for(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)
    errors = []

    def enqueue_another(event):
        with pytest.raises(RuntimeError, match=r"would wait forever in the thread 'deeper-sync'") as caught:
            manager.sync.enqueue_task(double, args=[2])
        errors.append(caught.value)

    manager.subscribe(enqueue_another, JobEnqueued)
    manager.sync.enqueue_task(double, args=[1])
    assert len(errors) == 1
    assert manager.sync.list_tasks().total_entries == 1
    manager.sync.close()


def test_the_blocking_facade_may_be_closed_and_used_again(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)
    for _ in range(3):
        manager.sync.enqueue_task(double, args=[1])
        manager.sync.close()


@pytest.mark.parametrize(("url", "runs_jobs"), [("noop://", False), ("memory://", True)])
async def test_a_worker_says_at_its_start_whether_tasks_are_switched_off(working, url, runs_jobs):
    async with BackgroundTaskManager(url) as manager:
        heard = []
        manager.subscribe(heard.append, WorkerStarted)
        async with working(manager):
            pass
    assert [event.runs_jobs for event in heard] == [runs_jobs]


def test_blocking_calls_of_other_threads_end_while_the_store_is_closed_again_and_again(url):
    manager = BackgroundTaskManager(url)
    double, is_over = with_task(manager), threading.Event()

    def close():
        while not is_over.is_set():
            manager.sync.close()

    with ThreadPoolExecutor(3) as pool:
        closing = pool.submit(close)
        enqueuing = [pool.submit(lambda: [double.sync.enqueue(each) for each in range(20)]) for _ in range(2)]
        try:
            assert [len(each.result(timeout=20)) for each in enqueuing] == [20, 20]
        finally:
            is_over.set()
        closing.result(timeout=20)
    assert manager.sync.get_statistics().queues["default"].pending == 40
    manager.sync.close()


async def test_calls_that_run_while_the_store_is_closed_open_it_again(url):
    manager = BackgroundTaskManager(url)
    double = with_task(manager)

    async def enqueue():
        for number in range(20):
            await double.enqueue(number)

    async def close():
        for _ in range(10):
            await manager.close()

    await asyncio.gather(enqueue(), enqueue(), close())
    assert (await manager.get_statistics()).queues["default"].pending == 40
    await manager.close()
