"""Hooks in processes for jobs: each child runs them once for itself, before its first job and at its end in order."""

import os
import sys
import textwrap

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.errors import JobNotCompletedError
from deeper_tasks.integrations.events import JobRetried, JobStarted
from deeper_tasks.worker.execution.executors import preparation

APPLICATION = """
    import asyncio, contextvars, os, time
    from pathlib import Path
    from deeper_tasks import BackgroundTaskManager, current_job

    manager = BackgroundTaskManager("memory://", poll_interval_seconds=0.05, queues={"default": 1})
    folder = Path(__file__).parent
    colour = contextvars.ContextVar("colour", default="none")

    class Ticker:
        \"\"\"Ticks in a task of its own, on the loop that it was made on.\"\"\"

        def __init__(self):
            self.ticks = 0
            self.task = asyncio.get_running_loop().create_task(self.run())

        async def run(self):
            while True:
                await asyncio.sleep(0.001)
                self.ticks += 1

    @manager.on_worker_start
    async def start_ticker(state):
        state.ticker = Ticker()
        colour.set("red")

    @manager.on_worker_start
    def start():
        note("start")
        if (folder / "fail").exists():
            raise ConnectionError("no database")
        if (folder / "slow").exists():
            time.sleep(0.3)
        if (folder / "hangs").exists():
            time.sleep(1000)
        return {"pid": os.getpid()}

    @manager.on_worker_stop
    async def stop_ticker(state):
        state.ticker.task.cancel()
        note("stop ticker")

    @manager.on_worker_stop
    def stop():
        note("stop")

    def note(word):
        with open(folder / f"notes {os.getpid()}", "a") as notes:
            notes.write(f"{word}\\n")

    @manager.task(executor="process")
    async def look():
        ticker, before = current_job().state.ticker, current_job().state.ticker.ticks
        while ticker.ticks == before:
            await asyncio.sleep(0.001)
        lost = asyncio.get_running_loop().create_task(asyncio.Event().wait())
        return [os.getpid(), current_job().state.pid, colour.get(), len(asyncio.all_tasks())]

    @manager.task(executor="process")
    def leave():
        os._exit(0)

    @manager.task(executor="process")
    def look_without_async():
        return [os.getpid(), current_job().state.pid, colour.get()]
"""


@pytest.fixture
async def application(tmp_path, monkeypatch):
    name = f"hooked_{os.getpid()}_{len(sys.modules)}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(APPLICATION))
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__(name)
    async with module.manager:
        yield module
    sys.modules.pop(name)


def notes_of(application, pid):
    return (application.folder / f"notes {pid}").read_text().split("\n")[:-1]


async def test_each_child_runs_the_hooks_for_itself_on_the_loop_of_its_jobs(application, working):
    manager = application.manager
    async with working(manager):
        seen = [await manager.result(await application.look.enqueue(), timeout=30) for _ in range(2)]
        sync = await manager.result(await application.look_without_async.enqueue(), timeout=30)
    child = seen[0][0]
    assert child != os.getpid()
    # What the first job left running was cancelled; what the hook began was not.
    assert seen == [[child, child, "red", 3]] * 2
    assert sync == [child, child, "red"]
    for pid in (child, os.getpid()):
        assert notes_of(application, pid) == ["start", "stop", "stop ticker"]


async def test_a_start_hook_that_fails_in_a_child_fails_the_attempt_which_is_tried_again(
    application, working, caplog, wait_until
):
    manager, retried = application.manager, []
    manager.subscribe(lambda event: (retried.append(event), (application.folder / "fail").unlink()), JobRetried)
    async with working(manager) as worker:
        await wait_until(lambda: "pid" in worker.state)
        (application.folder / "fail").touch()
        task_id = await application.look.with_options(retry_delay_seconds=0, max_attempts=2).enqueue()
        good = (await manager.result(task_id, timeout=30))[0]
    [event] = retried
    assert event.error.kind == "HookError"
    assert event.error.message.endswith(".start failed: ConnectionError: no database")
    assert "a process for jobs did not start" in caplog.text
    assert "in start\n    raise ConnectionError" in caplog.text
    pids = {int(path.name.split()[1]) for path in application.folder.glob("notes *")}
    [failed] = pids - {good, os.getpid()}
    assert notes_of(application, failed) == ["start", "stop ticker"]


async def test_a_start_hook_that_hangs_in_a_child_is_told_with_its_job_and_fails_the_attempt(
    application, working, caplog, monkeypatch, wait_until
):
    monkeypatch.setattr(preparation, "_PATIENCE", 0.1)
    manager, told = application.manager, []
    manager.subscribe(lambda event: (told.append(event), (application.folder / "hangs").unlink()), JobRetried)
    manager.subscribe(told.append, JobStarted)
    async with working(manager) as worker:
        await wait_until(lambda: "pid" in worker.state)
        with pytest.raises(JobNotCompletedError):
            await manager.result(await application.leave.with_options(max_attempts=1).enqueue(), timeout=30)
        (application.folder / "hangs").touch()
        monkeypatch.setattr(preparation, "LONGEST", 0.5)
        task_id = await application.look.with_options(retry_delay_seconds=0, max_attempts=2).enqueue()
        await wait_until(lambda: len(told) >= 2)
        monkeypatch.setattr(preparation, "LONGEST", 60)
        await manager.result(task_id, timeout=30)
    first, failed, started = told
    assert first.job_id != task_id
    assert failed.error.kind == "HookError"
    assert failed.error.message.endswith(f"its start hook {application.__name__}.start did not end within 500 ms")
    assert (started.job_id, started.attempt) == (task_id, 2)
    assert f"the job {task_id} of {application.__name__}.look has waited" in caplog.text
    assert f"which is busy with its start hook {application.__name__}.start" in caplog.text


async def test_start_hooks_do_not_use_up_the_jobs_timeout(application, working, wait_until):
    manager = application.manager
    async with working(manager) as worker:
        await wait_until(lambda: "pid" in worker.state)
        (application.folder / "slow").touch()
        task_id = await application.look_without_async.with_options(timeout_seconds=0.25).enqueue()
        await manager.result(task_id, timeout=30)


async def test_a_hook_that_no_other_process_can_import_fails_attempts_in_processes_with_the_way_out(
    application, working
):
    async with BackgroundTaskManager("memory://", poll_interval_seconds=0.05) as manager:

        @manager.on_worker_start
        def inner(): ...

        manager.registry.add(application.look)
        async with working(manager):
            task_id = await manager.enqueue_task(application.look, max_attempts=1)

            with pytest.raises(JobNotCompletedError, match=r"discarded.*cannot import the hook .*at the top level"):
                await manager.result(task_id, timeout=30)
