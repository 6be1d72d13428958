"""The nursery: children that start as a worker does, run one attempt, and can be killed with all they started."""

import asyncio
import errno
import os
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.stop import Stop
from deeper_tasks.integrations.events import JobStarted
from deeper_tasks.worker.clock import SystemClock
from deeper_tasks.worker.execution.executors import nursery, preparation, zygote_client
from deeper_tasks.worker.execution.executors.nursery import Nursery
from deeper_tasks.worker.execution.executors.process import ProcessExecutor
from deeper_tasks.worker.execution.quarantine import Quarantine
from deeper_tasks.worker.execution.solitude import Solitude
from deeper_tasks.worker.home import Home, NoHomeError

APPLICATION = """
    import asyncio, logging, os, signal, subprocess, sys, threading, time
    from pathlib import Path
    from deeper_tasks import BackgroundTaskManager, current_job

    manager = BackgroundTaskManager(settings=None, url="sqlite:///{folder}/own.db")

    @manager.on_worker_start
    async def open_pool():
        return dict(pool=asyncio.get_running_loop(), by=os.getpid())

    @manager.on_worker_stop
    def close_pool(state):
        Path("{folder}", "stopped").write_text(str(state.by))
        if os.environ.get("HANGS"):
            time.sleep(1000)

    @manager.middleware
    async def around(job, proceed):
        job.log(f"before, {{os.getpid()}}, {{job.state.by}}")
        settlement = await proceed()
        job.log("after")
        return settlement

    def where():
        job = current_job()
        job.progress(0.5, "half")
        logging.getLogger("shop").warning("from %s", os.getpid())
        return [os.getpid(), job.state.by, threading.current_thread() is threading.main_thread()]

    @manager.task
    async def on_loop():
        return [*where(), asyncio.get_running_loop() is current_job().state.pool]

    @manager.task
    def in_thread():
        return where()

    @manager.task(executor="process")
    def in_process():
        return where()

    @manager.task(executor="process")
    def with_a_loop_of_its_own():
        async def main():
            await asyncio.sleep(0)
            return where()
        return asyncio.run(main())

    @manager.task(executor="process")
    async def on_a_loop():
        return [*where(), asyncio.get_running_loop() is current_job().state.pool]

    @manager.task
    async def falls(how: str):
        match how:
            case "kill": os.kill(os.getpid(), signal.SIGKILL)
            case "exit": os._exit(7)
            case "error": raise ValueError("boom")

    @manager.task
    def hangs(folder: str):
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
        Path(folder, "pids.tmp").write_text(f"{{os.getpid()}} {{helper.pid}}")
        Path(folder, "pids.tmp").rename(Path(folder, "pids"))
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(1000)

    @manager.task
    def looks(folder: str):
        Path(folder, "looks").touch()
        while not current_job().should_stop:
            time.sleep(0.005)
        return [current_job().stopping, current_job().cancelled]

    @manager.task
    async def splits():
        if os.fork() == 0:
            current_job().log("the other half")
            return "the other half"
        os.wait()
        return "the job"

    @manager.task
    async def exits_in_a_part():
        async def part():
            sys.exit(3)
        await asyncio.gather(part())

    @manager.task
    async def exits_elsewhere(how: str, error: str):
        errors = dict(SystemExit=SystemExit(3), KeyboardInterrupt=KeyboardInterrupt())
        over = asyncio.get_running_loop().create_future()
        def exit():
            asyncio.get_running_loop().call_soon(over.set_result, None)
            raise errors[error]
        async def part():
            exit()
        if how == "task":
            kept = asyncio.create_task(part())
        else:
            asyncio.get_running_loop().call_soon(exit)
        await over

    @manager.task
    async def oom_score():
        return int(Path("/proc/self/oom_score_adj").read_text())

    @manager.task
    async def chains():
        return await on_loop.enqueue()

    @manager.task
    def takes(user_id: int): ...

    @manager.task(executor="process", memory_limit_mb=60)
    def grows(megabytes: int):
        kept = b"x" * (megabytes * 2**20)
        time.sleep(1000 if megabytes > 60 else 0)
        return len(kept)
"""


@pytest.fixture
def clock():
    return SystemClock()


@pytest.fixture
def application(tmp_path, monkeypatch):
    """Return a way to write modules, and what is at home there under a name."""
    names = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def application(text=APPLICATION, place="manager"):
        name = f"quarantined_{os.getpid()}_{len(sys.modules)}_{len(names)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text).format(folder=tmp_path))
        return Home(place=f"{name}:{place}", url=f"sqlite:///{tmp_path}/own.db")

    yield application
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
async def ward(bench, clock, tmp_path):
    """A bench with a quarantine whose children are real; `ward.home` is where their manager is."""
    processes = ProcessExecutor(bench.parts)
    bench.home, bench.folder, bench.logged = None, tmp_path, {}
    solitude = Solitude(
        running=lambda: list(bench.attempts.values()),
        clock=clock,
        is_stopping=lambda: False,
        on_change=lambda: None,
    )
    bench.quarantine = Quarantine(
        slots=1,
        nursery=Nursery(processes=processes, home=lambda: bench.home),
        solitude=solitude,
        bus=bench.bus,
        on_free=lambda: None,
    )
    yield bench
    await bench.quarantine.close()


@pytest.fixture
def tasks(ward, application):
    ward.home = application()
    module = __import__(ward.home.place.partition(":")[0])
    for task in module.manager.registry:
        ward.registry.add(task)
    return {task.qualname: task for task in ward.registry}


async def lost(ward, task, *args, **fields):
    """Claim a job that was lost with its worker."""
    job = await ward.claim(task, *args, **fields)
    return msgspec.structs.replace(job, is_quarantined=True)


async def run(ward, task, *args, **fields):
    """Run a lost job to its end, and wait until its child has gone."""
    _, running = ward.start(await lost(ward, task, *args, **fields))
    settlement = await asyncio.wait_for(running, 20)
    await child_has_gone(ward)
    return settlement


async def child_has_gone(ward):
    if ward.quarantine._leaving:
        await asyncio.wait(ward.quarantine._leaving, timeout=20)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_every_kind_of_task_runs_in_a_child_with_hooks_and_middleware(ward, tasks, tmp_path, caplog):
    for name, expected in [
        ("on_loop", [True, True]),
        ("in_thread", [False]),
        ("in_process", [True]),
        ("with_a_loop_of_its_own", [True]),
        ("on_a_loop", [True, True]),
    ]:
        job = await lost(ward, tasks[name])
        settlement = await asyncio.wait_for(ward.start(job)[1], 20)
        await asyncio.wait(ward.quarantine._leaving, timeout=20)
        pid, opened_by, *rest = msgspec.json.decode(settlement.result)
        assert settlement.end is End.COMPLETE
        assert pid == opened_by != os.getpid()
        assert rest == expected
        record = await ward.backend.get(job.id)
        assert record.log == (f"before, {pid}, {pid}", "after")
        assert record.progress.message == "half"
        assert (tmp_path / "stopped").read_text() == str(pid)
        assert not is_alive(pid)
        ward.logged[pid] = job.id
    await ward.quarantine.close()
    said = {record.getMessage(): record.job_id for record in caplog.records if record.name == "shop"}
    assert said == {f"from {pid}": job_id for pid, job_id in ward.logged.items()}


async def test_a_child_that_dies_fails_its_attempt_alone_and_the_last_one_discards_the_job(ward, tasks):
    for how, words in (("kill", "was ended by signal 9 (SIGKILL)"), ("exit", "exited with code 7")):
        settlement = await run(ward, tasks["falls"], how)
        assert (settlement.end, settlement.error.kind) == (End.RETRY, "ProcessDiedError")
        assert settlement.error.message == f"the process that ran this job {words}"
        assert settlement.is_process_lost
        assert (await run(ward, tasks["on_loop"])).end is End.COMPLETE
    settlement = await run(ward, tasks["falls"], "exit", max_attempts=1)
    assert (settlement.end, settlement.is_process_lost) == (End.DISCARD, True)


async def test_an_error_is_the_handlers_own_and_ends_the_quarantine(ward, tasks):
    settlement = await run(ward, tasks["falls"], "error")
    assert (settlement.error.kind, settlement.error.message) == ("ValueError", "boom")
    assert "falls" in settlement.error.traceback
    assert not settlement.is_process_lost
    assert settlement.ran_for is not None


async def test_a_stop_kills_the_child_with_all_it_started(ward, tasks, wait_until):
    for stop, end in ((Stop.TIMEOUT, End.RETRY), (Stop.CANCEL, End.CANCEL), (Stop.SHUTDOWN, End.RELEASE)):
        folder = ward.folder / stop
        folder.mkdir()
        limit = timedelta(seconds=2) if stop is Stop.TIMEOUT else None
        attempt, running = ward.start(await lost(ward, tasks["hangs"], str(folder), limit=limit))
        await wait_until((folder / "pids").exists)
        pids = [int(pid) for pid in (folder / "pids").read_text().split()]
        if stop is not Stop.TIMEOUT:
            attempt.tell_to_stop(stop, "enough")
        settlement = await asyncio.wait_for(running, 20)
        assert settlement.end is end
        # Not seen to end by itself, it stays in quarantine.
        assert settlement.is_process_lost
        if stop is Stop.TIMEOUT:
            assert settlement.error.kind == "TimeoutError"
        await wait_until(lambda pids=pids: not any(map(is_alive, pids)))
        await child_has_gone(ward)


async def test_a_handler_sees_there_that_its_worker_is_stopping(ward, tasks, tmp_path, wait_until):
    attempt, running = ward.start(await lost(ward, tasks["looks"], str(tmp_path)))
    await wait_until((tmp_path / "looks").exists)
    attempt.announce(Stop.SHUTDOWN)
    settlement = await asyncio.wait_for(running, 20)
    assert (settlement.end, settlement.reason) == (End.RELEASE, "worker shutting down")
    assert not settlement.is_process_lost


async def test_a_part_of_a_job_that_exits_fails_its_attempt_as_it_would_in_the_worker(ward, tasks):
    settlement = await run(ward, tasks["exits_in_a_part"])
    assert (settlement.end, settlement.error.kind, settlement.is_process_lost) == (End.RETRY, "SystemExit", False)


async def test_what_a_part_of_a_job_raised_on_the_loop_is_the_jobs_error(ward, tasks):
    for how in ("task", "callback"):
        for error in ("SystemExit", "KeyboardInterrupt"):
            settlement = await run(ward, tasks["exits_elsewhere"], how, error)
            end = (settlement.end, settlement.error.kind, settlement.is_process_lost)
            assert end == (End.RETRY, error, False), (how, error)


@pytest.mark.skipif(sys.platform != "linux", reason="another kernel kills otherwise")
async def test_where_memory_runs_out_the_kernel_takes_the_child_first(ward, tasks):
    assert (await run(ward, tasks["oom_score"])).result == "1000"


async def test_what_a_handler_forks_does_not_end_its_attempt(ward, tasks):
    job = await lost(ward, tasks["splits"])
    settlement = await asyncio.wait_for(ward.start(job)[1], 20)
    assert settlement.result == '"the job"'
    assert (await ward.backend.get(job.id)).log[1:] == ("after",)


async def test_what_a_handler_enqueues_goes_into_the_store_of_its_worker(ward, tasks, tmp_path):
    ward.home = msgspec.structs.replace(ward.home, url=f"sqlite:///{tmp_path}/other.db")
    async with BackgroundTaskManager(ward.home.url) as manager:
        settlement = await run(ward, tasks["chains"])
        [job] = (await manager.list_tasks()).entries
        assert settlement.result == f'"{job.id}"'
    assert not (tmp_path / "own.db").exists()


async def test_arguments_that_do_not_fit_end_as_they_would_in_the_worker(ward, tasks):
    job = await lost(ward, tasks["takes"].name, arguments="[[1],{}]")
    settlement = await asyncio.wait_for(ward.start(msgspec.structs.replace(job, arguments='[["x"],{}]'))[1], 20)
    assert not settlement.is_process_lost
    assert settlement.ran_for is None


async def test_a_memory_limit_holds_there_for_what_the_job_uses_itself(ward, tasks):
    assert (await run(ward, tasks["grows"], 10)).end is End.COMPLETE
    settlement = await run(ward, tasks["grows"], 200)
    assert settlement.error.kind == "MemoryLimitError"
    said = "used more than 60 MB of memory, what its process used before its start not counted"
    assert settlement.error.message == said


NO_MANAGER = "manager = None\n"
BROKEN = "raise RuntimeError('not today')\n"
DEADLY = "import os\nif 'zygote' in ' '.join(__import__('sys').orig_argv): os._exit(3)\n"
UNKNOWING = "from deeper_tasks import BackgroundTaskManager\nmanager = BackgroundTaskManager('sqlite:///own.db')\n"
HOOKLESS = (
    UNKNOWING
    + "@manager.on_worker_start\ndef fails(): raise RuntimeError('no pool')\n"
    + "@manager.task(name='shop.here')\nasync def here(): ...\n"
)


async def test_where_no_child_can_be_made_the_job_runs_in_the_worker(ward, application, caplog):
    @ward.task
    async def here():
        return os.getpid()

    here.module = None
    for text, words in (
        (NO_MANAGER, "AttributeError"),
        (BROKEN, "RuntimeError: not today"),
        (DEADLY, "exited with code 3"),
        (UNKNOWING, "does not know the task"),
        (HOOKLESS, "no pool"),
    ):
        ward.home = application(text)
        caplog.clear()
        settlement = await run(ward, here)
        assert settlement.result == str(os.getpid()), words
        [record] = [record for record in caplog.records if record.levelname == "WARNING"]
        assert words in record.message


async def test_a_manager_that_is_nowhere_has_its_jobs_run_in_the_worker(ward, caplog):
    def nowhere():
        raise NoHomeError("it is defined in a test")

    ward.quarantine._nursery._home = nowhere

    @ward.task
    async def here():
        return os.getpid()

    assert (await run(ward, here)).result == str(os.getpid())
    assert "it is defined in a test" in caplog.text


async def test_where_the_system_has_no_process_to_give_the_job_runs_in_the_worker(ward, tasks, monkeypatch, caplog):
    def start(*arguments, **options):
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(zygote_client, "_start_process", start)

    @ward.task
    async def here():
        return os.getpid()

    assert (await run(ward, here)).result == str(os.getpid())
    assert "no process can be made for it: no process can be started now: [Errno 11] no more" in caplog.text


async def test_the_log_names_the_import_that_a_job_in_quarantine_waits_for(
    ward, application, wait_until, caplog, monkeypatch
):
    monkeypatch.setattr(preparation, "_PATIENCE", 0.1)
    ward.home = application(
        "import time\nfrom pathlib import Path\nwhile not Path('{folder}', 'go').exists(): time.sleep(0.005)\n"
    )

    @ward.task
    async def here(): ...

    _, running = ward.start(await lost(ward, here))
    await wait_until(lambda: f"busy with the import of {ward.home.place.partition(':')[0]}" in caplog.text)
    assert ward.of_kind(JobStarted) == []
    (ward.folder / "go").touch()
    await asyncio.wait_for(running, 20)


async def test_a_stop_while_the_child_gets_ready_ends_it_without_an_attempt(ward, application, tmp_path, wait_until):
    ward.home = application(
        "import os, time\nfrom pathlib import Path\n"
        "Path('{folder}', 'pid.tmp').write_text(str(os.getpid()))\n"
        "Path('{folder}', 'pid.tmp').rename(Path('{folder}', 'pid'))\n"
        "time.sleep(1000)\n"
    )

    @ward.task
    async def here(): ...

    attempt, running = ward.start(await lost(ward, here))
    await wait_until((tmp_path / "pid").exists)
    attempt.tell_to_stop(Stop.SHUTDOWN)
    settlement = await asyncio.wait_for(running, 20)
    assert (settlement.end, settlement.ran_for) == (End.RELEASE, None)
    assert not is_alive(int((tmp_path / "pid").read_text()))


async def test_a_stop_hook_that_hangs_holds_up_neither_the_settlement_nor_the_next_job(ward, tasks, monkeypatch):
    monkeypatch.setattr(nursery, "_LONGEST_FAREWELL", 0.2)
    monkeypatch.setenv("HANGS", "1")
    assert (await run(ward, tasks["on_loop"])).end is End.COMPLETE
    assert (await run(ward, tasks["on_loop"])).end is End.COMPLETE
