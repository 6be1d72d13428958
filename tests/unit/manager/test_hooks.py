"""Start and stop hooks: what a worker's jobs share is made before its first claim, and closed after its last job."""

import asyncio
import contextvars
import threading
from functools import partial

import pytest

from deeper_tasks import BackgroundTaskManager, WorkerState, current_job
from deeper_tasks.domain.state import State
from deeper_tasks.errors import ConfigError, HookError
from deeper_tasks.integrations.events import WorkerStarted, WorkerStopping
from deeper_tasks.worker.hooks import hook_run

colour = contextvars.ContextVar("colour", default="none")


@pytest.fixture
async def manager():
    async with BackgroundTaskManager("memory://", poll_interval_seconds=0.05) as manager:
        yield manager


@pytest.fixture
def told(manager):
    """Add hooks that tell when they are called: `told("start a")`; gives the list of all that was told."""
    said = []

    def told(*words, error=None):
        for word in words:
            kind, _, name = word.partition(" ")
            add = manager.on_worker_start if kind == "start" else manager.on_worker_stop

            async def hook(word=word):
                said.append(word)
                if error is not None:
                    raise error

            hook.__qualname__ = f"{kind}_{name}"
            add(hook)
        return said

    return told


async def test_start_hooks_run_in_order_before_the_first_claim_and_stop_hooks_in_reverse_after_the_last_job(
    manager, told, working, wait_until
):
    said = told("start a", "start b", "stop a", "stop b")
    ends = asyncio.Event()

    @manager.task(name="shop.job")
    async def job():
        said.append("job begins")
        await ends.wait()
        said.append("job ends")

    await job.enqueue()
    manager.subscribe(lambda _: ends.set(), WorkerStopping)
    async with working(manager):
        await wait_until(lambda: "job begins" in said)
    assert said == ["start a", "start b", "job begins", "job ends", "stop b", "stop a"]


async def test_coroutines_and_threads_find_in_the_state_what_hooks_set_and_returned(manager, working):
    @manager.on_worker_start
    async def set_client(state):
        state.client = "client"

    @manager.on_worker_start
    def return_pool(state: WorkerState):
        return {"pool": f"pool of {state.client}"}

    @manager.on_worker_start
    def return_nothing() -> None: ...

    seen = []
    manager.on_worker_stop(lambda state: seen.append(sorted(state)))

    @manager.task(name="shop.on_the_loop")
    async def on_the_loop():
        return [current_job().state.client, current_job().state.pool]

    @manager.task(name="shop.in_a_thread")
    def in_a_thread():
        return [current_job().state.client, current_job().state.pool]

    @manager.middleware
    async def around(job, proceed):
        seen.append(job.state.pool)
        return await proceed()

    async with working(manager) as worker:
        for task in (on_the_loop, in_a_thread):
            assert await manager.result(await task.enqueue(), timeout=20) == ["client", "pool of client"]
        assert worker.state.pool == "pool of client"
    assert seen == ["pool of client", "pool of client", ["client", "pool"]]


async def test_a_name_that_no_hook_set_is_an_error_that_says_which_are():
    state = WorkerState()
    with pytest.raises(AttributeError, match=r"no 'pool'; the start hooks have set: nothing"):
        _ = state.pool
    state.client = "secret"
    with pytest.raises(AttributeError, match=r"no 'pool'; the start hooks have set: client"):
        _ = state.pool
    assert "client" in state
    assert "pool" not in state
    assert getattr(state, "pool", None) is None
    assert "secret" not in repr(state)


@pytest.mark.parametrize("error", [ValueError("no pool"), SystemExit(0), asyncio.CancelledError(), KeyboardInterrupt()])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_start_hook_that_fails_ends_the_start_and_what_had_started_is_stopped(manager, told, error, is_async):
    said = told("start a", "stop a")

    async def fail_async():
        raise error

    def fail_in_a_thread():
        raise error

    manager.on_worker_start(fail_async if is_async else fail_in_a_thread)
    told("stop b", "start c", "stop c")
    manager.subscribe(said.append, WorkerStarted)

    @manager.task(name="shop.job")
    async def job(): ...

    task_id = await job.enqueue()
    with pytest.raises(HookError, match=rf"the start hook .*fail_.* failed: {type(error).__name__}") as raised:
        await manager.run_worker(handle_signals=False)
    assert raised.value.__cause__ is error
    assert said == ["start a", "stop a"]
    assert (await manager.get_task_status(task_id)).status is State.PENDING
    assert (await manager.get_overview()).workers == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [(["pool"], "returned list, not a mapping"), ({1: "pool"}, "not 1"), ({"the pool": 1}, "not 'the pool'")],
)
async def test_what_is_no_mapping_of_names_cannot_be_returned(manager, value, words):
    manager.on_worker_start(lambda: value)
    with pytest.raises(HookError, match=words):
        await manager.run_worker(handle_signals=False)


async def test_a_def_that_returns_a_coroutine_is_awaited(manager, working):
    async def open_pool(state, size):
        state.pool = size

    manager.on_worker_start(partial(open_pool, size=3))
    manager.on_worker_start(lambda state: open_pool(state, size=4))
    async with working(manager) as worker:
        while "pool" not in worker.state or worker.state.pool != 4:  # noqa: ASYNC110 - set by the worker
            await asyncio.sleep(0)


@pytest.mark.parametrize("hook", [lambda state, pool: None, lambda *, pool: None, "open_pool", None])
async def test_what_cannot_be_called_with_the_state_is_no_hook(manager, hook):
    with pytest.raises(ConfigError, match="a hook is"):
        manager.on_worker_start(hook)
    with pytest.raises(ConfigError, match="a hook is"):
        manager.on_worker_stop(hook)


async def test_a_start_hook_that_blocks_its_thread_does_not_keep_the_worker_from_beating(manager):
    beaten, began = threading.Event(), []

    @manager.on_worker_start
    def block():
        began.append(beaten.wait(20))

    def on_start(worker):
        worker.on_pulse(lambda _: (beaten.set(), worker.stop() if began else None))

    await manager.run_worker(handle_signals=False, on_start=on_start)
    assert began == [True]


async def test_the_log_names_the_start_hook_that_a_worker_waits_for(manager, caplog, monkeypatch):
    monkeypatch.setattr(hook_run, "_PATIENCE", 0.01)
    workers = []

    @manager.on_worker_start
    async def connect():
        while "for its start hook" not in caplog.text:  # noqa: ASYNC110 - said by another task
            await asyncio.sleep(0)
        workers[0].stop()

    await manager.run_worker(handle_signals=False, on_start=workers.append)
    assert "the worker has waited 10 ms for its start hook" in caplog.text
    assert ".connect" in caplog.text


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_worker_told_to_stop_waits_for_no_start_hook(manager, told, is_async, caplog):
    said = told("start a")
    loop, workers, ends = asyncio.get_running_loop(), [], threading.Event()

    async def hang():
        workers[0].stop()
        await asyncio.Event().wait()

    def hang_in_a_thread():
        loop.call_soon_threadsafe(workers[0].stop)
        ends.wait(20)

    manager.on_worker_start(hang if is_async else hang_in_a_thread)
    told("start c", "stop a", "stop b")
    try:
        await manager.run_worker(handle_signals=False, on_start=workers.append)
    finally:
        ends.set()
    assert said == ["start a", "stop a"]
    assert "stops before the start hook" in caplog.text


async def test_a_stop_hook_that_hangs_is_logged_and_leaves_the_others_their_time(
    manager, told, working, monkeypatch, caplog
):
    monkeypatch.setattr(hook_run, "STOP_SECONDS", 0.1)
    said, ends = told("stop a"), threading.Event()
    manager.on_worker_stop(asyncio.Event().wait)
    manager.on_worker_stop(partial(ends.wait, 20))
    told("stop d")
    try:
        async with working(manager):
            pass
    finally:
        ends.set()
    assert said == ["stop d", "stop a"]
    assert caplog.text.count("did not end within") == 2


async def test_a_stop_hook_that_fails_is_logged_with_its_name(manager, told, working, caplog):
    said = told("stop a")
    told("stop b", error=SystemExit(0))
    async with working(manager):
        pass
    assert said == ["stop b", "stop a"]
    assert "test_hooks.stop_b failed: SystemExit: 0" in caplog.text


async def test_without_a_start_no_stop_hook_runs(manager, told):
    said = told("start a", "stop a")
    await manager.run_worker(handle_signals=False, on_start=lambda worker: worker.stop())
    assert said == []


async def test_a_cancelled_worker_runs_its_stop_hooks(manager, told, wait_until):
    said = told("start a", "stop a")
    running = asyncio.create_task(manager.run_worker(handle_signals=False))
    await wait_until(lambda: said)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert said == ["start a", "stop a"]


async def test_each_worker_of_a_manager_runs_the_hooks_for_itself(manager, working):
    manager.on_worker_start(lambda: {"token": object()})
    async with working(manager) as first, working(manager) as second:
        while "token" not in first.state or "token" not in second.state:  # noqa: ASYNC110 - set by the workers
            await asyncio.sleep(0)
        assert first.state.token is not second.state.token


async def test_what_start_hooks_set_in_their_context_every_attempt_starts_with(manager, working):
    @manager.on_worker_start
    async def paint():
        colour.set("red")

    @manager.on_worker_start
    def paint_on():
        colour.set(f"dark {colour.get()}")

    @manager.task(name="shop.look")
    async def look():
        return colour.get()

    async with working(manager):
        assert await manager.result(await look.enqueue(), timeout=20) == "dark red"
    assert colour.get() == "none"


async def test_hooks_belong_to_their_manager_and_do_not_come_with_the_tasks_that_another_includes(manager, working):
    async with BackgroundTaskManager("memory://", poll_interval_seconds=0.05) as other:
        other.on_worker_start(lambda: {"pool": 1})

        @other.task(name="shop.look")
        async def look():
            return "pool" in current_job().state

        manager.registry.add(look)
        async with working(manager):
            task_id = await manager.enqueue_task(look)
            assert await manager.result(task_id, timeout=20) is False
