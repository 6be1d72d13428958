"""The process executor: code that can really be stopped, and a clear end whatever becomes of its process."""

import asyncio
import os
import signal
import sys
import textwrap
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET

from deeper_tasks.domain.retry_policy import RetryPolicy
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.domain.stop import Stop
from deeper_tasks.integrations.events import ArgumentsUnfit, JobStarted
from deeper_tasks.tasks import ExecutorKind, TaskRegistry
from deeper_tasks.worker.clock import SystemClock
from deeper_tasks.worker.execution.executors import preparation, process, zygote_client

TASKS = """
    import asyncio, contextvars, ctypes, decimal, functools, math, os, re, resource, signal, subprocess, sys, threading
    import time
    from dataclasses import dataclass
    from pathlib import Path
    from typing import ClassVar
    from deeper_tasks import Cancel, Fail, Retry, Snooze, current_job, task

    colour = contextvars.ContextVar("colour", default="none")
    # From here on there is a decimal context, which copies of this code's context share.
    decimal.getcontext()

    def forever():
        while True:
            time.sleep(1000)

    @task(executor="process")
    def pid(): return os.getpid()

    @dataclass
    class Counted:
        made: ClassVar[int] = 0
        number: int
        def __post_init__(self): Counted.made += 1

    @task(executor="process")
    def made(it: Counted): return Counted.made

    @task(executor="process")
    async def on_a_loop(number: int):
        await asyncio.sleep(0)
        return [number, current_job().attempt, asyncio.get_running_loop().is_running()]

    @task(executor="process")
    def ends(how: str):
        match how:
            case "error": raise ValueError("boom")
            case "exit": raise SystemExit(3)
            case "interrupt": raise KeyboardInterrupt
            case "cancelled": raise asyncio.CancelledError
            case "stop": raise StopIteration
            case "retry": raise Retry(after=5)
            case "snooze": return Snooze(7)
            case "fail": raise Fail("never")
            case "cancel": raise Cancel("not wanted")
            case "surrogate": raise ValueError("before \\ud800 after")
            case "wordless": raise Wordless
            case "huge": raise ValueError("x" * 10_000_000)
            case "deep": return ends.function("deep")
            case "result": return object()
            case "large": return "x" * 2_000_000
            case "os._exit": os._exit(7)
            case "kill": os.kill(os.getpid(), signal.SIGKILL)
            case "segfault": ctypes.string_at(0)
            case "abort": os.abort()
            case "memory": return b"x" * 2**62
            case "parent": os.kill(os.getppid(), signal.SIGKILL); forever()
            case "close": os.close(connection())
            case "close and go on": os.close(connection()); forever()
            case "babble": os.write(connection(), b"hello, is anybody there?"); forever()
            case "bytes": [scribble(int(fd)) for fd in os.listdir("/proc/self/fd") if int(fd) > 2]; forever()
            case "no frame": os.write(connection(), b"\\0\\0\\0\\2{}"); forever()
            case "print": print("to nobody", flush=True)
            case "a syntax error of bytes": raise SyntaxError("odd", ("file.py", 1, 1, b"bytes"))
            case "words that exit": raise Exiting
            case "an outcome without its parts": raise Partless
            case "a group": raise ExceptionGroup("both", [ValueError("a"), Fail("never")])
            case "a returned error": return ValueError("no")
            case "a coroutine": return on_a_loop.function(1)
            case "a generator": return (number for number in [1])
            case "progress that is no number": current_job().progress("0.5")
            case "progress without end": current_job().progress(float("nan"))
            case "a result that raises": return {"a": [Raising()]}
            case "a result that exits": return {Exiting(): 1}

    class Exiting(Exception):
        def __str__(self): raise SystemExit(0)
        __repr__ = __str__

    class Raising:
        def __iter__(self): raise RuntimeError("odd")
        __str__ = __repr__ = __len__ = __iter__

    class Partless(Fail):
        def __init__(self): pass

    def leave(attempt, error): sys.exit(4)

    @task(executor="process", retry=leave)
    def fails_by(kind: str): raise {"error": ValueError("boom"), "exit": SystemExit(3)}[kind]

    def passes_on(function):
        @functools.wraps(function)
        def wrapper(*args): return function(*args)
        return wrapper

    def runs(function):
        @functools.wraps(function)
        def wrapper(*args): return asyncio.run(function(*args))
        return wrapper

    @task(executor="process")
    @passes_on
    async def wrapped(number: int):
        await asyncio.sleep(0)
        return number

    @task(executor="process")
    @runs
    async def run_by_its_wrapper(number: int):
        await asyncio.sleep(0)
        return number

    @task(executor="process")
    async def has_a_part_exit(is_awaited: bool):
        async def leave(): sys.exit(0)
        part = asyncio.create_task(leave())
        await (part if is_awaited else asyncio.sleep(0.001))

    class Wordless(Exception):
        def __str__(self): raise RuntimeError("no words")

    @task(executor="process")
    def stubborn(folder: str):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        Path(folder, "pids.tmp").write_text(f"{os.getpid()} {grandchild.pid}")
        Path(folder, "pids.tmp").rename(Path(folder, "pids"))
        forever()

    def connection():
        fds = [int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > 2]
        return next(fd for fd in fds if is_socket(fd))

    def is_socket(fd):
        try:
            return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        except OSError:
            return False

    def scribble(fd):
        try:
            os.write(fd, b"\\xff" * 64)
        except OSError:
            pass

    def tell(folder, name, *pids):
        Path(folder, name + ".tmp").write_text(" ".join(map(str, pids)))
        Path(folder, name + ".tmp").rename(Path(folder, name))

    def start_daemon(folder, name):
        # As daemons do it: forked twice, in a session of its own, nothing closed.
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                tell(folder, name, os.getpid())
                forever()
            os._exit(0)
        os.wait()

    @task(executor="process")
    def summons(folder: str, then: str):
        start_daemon(folder, "pids")
        while not Path(folder, "pids").exists():
            time.sleep(0.005)
        match then:
            case "wait": forever()
            case "segfault": ctypes.string_at(0)
            case "return": return os.getpid()

    @task(executor="process")
    def clings(folder: str, how: str):
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
        tell(folder, "pids", os.getpid(), helper.pid)
        match how:
            case "deaf": signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); forever()
            case "busy in C": re.match("(a+)+$", "a" * 64 + "b")

    @task(executor="process")
    def opens_all():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        leak.extend(open(os.devnull) for _ in range(1000))

    leak = []

    @task(executor="process", memory_limit_mb=150)
    def grows(megabytes: int):
        leak.append(b"x" * (megabytes * 2**20))
        if megabytes > 150:
            forever()
        return os.getpid()

    @task(executor="process", memory_limit_mb=150)
    def has_others_grow():
        subprocess.run([sys.executable, "-c", "big = b'x' * 400 * 2**20; import time; time.sleep(1000)"])

    @task(executor="process", memory_limit_mb=math.inf)
    def grows_at_will(megabytes: int):
        leak.append(b"x" * (megabytes * 2**20))
        return os.getpid()

    @task(executor="process")
    def tells():
        job = current_job()
        job.progress(decimal.Decimal("0.25"), "a quarter")
        job.log("from the child")
        threading.Thread(target=job.log, args=("from its thread",)).start()
        return [job.task, job.deadline is not None]

    @task(executor="process")
    def paints():
        before = [colour.get(), decimal.getcontext().prec]
        colour.set("red")
        decimal.getcontext().prec = 5
        return before

    @task(executor="process")
    def takes(user_id: int): ...

    @task(executor="process")
    def waits(folder: str):
        while not Path(folder, "go").exists():
            time.sleep(0.005)
        return os.getpid()
"""


@pytest.fixture
def application(tmp_path, monkeypatch):
    """A module with tasks, importable here and in children."""
    name = f"application_{os.getpid()}_{len(sys.modules)}"

    def application(text=TASKS):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    yield application
    sys.modules.pop(name, None)


@pytest.fixture
def clock():
    return SystemClock()


@pytest.fixture
async def tasks(bench, application):
    bench.registry = TaskRegistry()
    return {task.name.rpartition(".")[2]: task for task in bench.registry.include(application())}


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def pid_of(bench, tasks):
    return msgspec.json.decode((await bench.run(tasks["pid"])).result)


async def test_a_task_runs_in_another_process_which_is_used_again(bench, tasks):
    first, second = await pid_of(bench, tasks), await pid_of(bench, tasks)
    assert first == second != os.getpid()


async def test_an_async_def_runs_there_on_a_loop_of_its_own(bench, tasks):
    settlement = await bench.run(tasks["on_a_loop"], 42)
    assert settlement.result == "[42,1,true]"


ENDS = [
    ("error", End.RETRY, "ValueError"),
    ("exit", End.RETRY, "SystemExit"),
    ("interrupt", End.RETRY, "KeyboardInterrupt"),
    ("cancelled", End.RETRY, "CancelledError"),
    ("stop", End.RETRY, "StopIteration"),
    ("retry", End.RETRY, "Retry"),
    ("snooze", End.SNOOZE, None),
    ("fail", End.FAIL, "Fail"),
    ("cancel", End.CANCEL, "Cancel"),
    ("surrogate", End.RETRY, "ValueError"),
    ("wordless", End.RETRY, "Wordless"),
    ("huge", End.RETRY, "ValueError"),
    ("deep", End.RETRY, "RecursionError"),
    ("memory", End.RETRY, "MemoryError"),
    ("a syntax error of bytes", End.RETRY, "SyntaxError"),
    ("words that exit", End.RETRY, "Exiting"),
    ("an outcome without its parts", End.RETRY, "AttributeError"),
    ("a group", End.FAIL, "Fail"),
    ("a returned error", End.RETRY, "ValueError"),
    ("a coroutine", End.RETRY, "TypeError"),
    ("a generator", End.RETRY, "TypeError"),
    ("progress that is no number", End.RETRY, "TypeError"),
    ("progress without end", End.RETRY, "ValueError"),
]


async def test_an_attempt_ends_there_as_it_would_here(bench, tasks):
    for how, end, kind in ENDS:
        settlement = await bench.run(tasks["ends"], how)
        assert settlement.end is end, how
        assert settlement.error is None if kind is None else settlement.error.kind == kind, how
        [settled] = await bench.backend.settle([settlement])
        assert settled.state in State


async def test_a_result_that_cannot_be_kept_is_left_out(bench, tasks):
    for how in ("result", "large", "a result that raises", "a result that exits"):
        settlement = await bench.run(tasks["ends"], how)
        assert (settlement.end, settlement.result) == (End.COMPLETE, None), how
        assert "the result" in settlement.result_omitted


async def test_what_wraps_an_async_def_is_awaited_there(bench, tasks):
    for name in ("wrapped", "run_by_its_wrapper"):
        settlement = await bench.run(tasks[name], 42)
        assert (settlement.end, settlement.result) == (End.COMPLETE, "42")


async def test_what_a_part_of_a_handler_exits_by_fails_its_attempt_there(bench, tasks):
    for is_awaited in (True, False):
        settlement = await bench.run(tasks["has_a_part_exit"], is_awaited)
        assert (settlement.end, settlement.error.kind) == (End.RETRY, "SystemExit")


async def test_what_a_handler_prints_does_not_get_in_the_way(bench, tasks):
    assert (await bench.run(tasks["ends"], "print")).end is End.COMPLETE


DEATHS = [
    ("os._exit", "exited with code 7"),
    ("kill", "was ended by signal 9 (SIGKILL)"),
    ("segfault", "was ended by signal 11 (SIGSEGV)"),
    ("abort", "was ended by signal 6 (SIGABRT)"),
    ("close", "exited with code 1"),
    ("close and go on", "closed its connection to the worker and was killed"),
    ("babble", "wrote something of its own to the worker's connection and was killed"),
    ("bytes", "wrote something of its own to the worker's connection and was killed"),
    ("no frame", "wrote something of its own to the worker's connection and was killed"),
]


async def test_a_child_that_dies_fails_its_attempt_and_is_replaced(bench, tasks):
    before = await pid_of(bench, tasks)
    for how, words in DEATHS:
        settlement = await bench.run(tasks["ends"], how)
        assert (settlement.end, settlement.error.kind) == (End.RETRY, "ProcessDiedError"), how
        assert settlement.error.message == f"the process that ran this job {words}"
        after = await pid_of(bench, tasks)
        assert before != after, how
        before = after


async def test_an_idle_child_that_was_killed_is_replaced(bench, tasks, wait_until):
    before = await pid_of(bench, tasks)
    os.kill(before, signal.SIGKILL)
    await wait_until(lambda: not is_alive(before))
    settlement = await bench.run(tasks["pid"])
    if settlement.end is not End.COMPLETE:
        # The worker had not heard of it yet: an attempt, and a clear reason.
        assert settlement.error.kind == "ProcessDiedError"
        settlement = await bench.run(tasks["pid"])
    assert msgspec.json.decode(settlement.result) != before


async def test_jobs_at_once_have_children_of_their_own(bench, tasks):
    jobs = [await bench.claim(tasks["pid"]) for _ in range(3)]
    settlements = await asyncio.gather(*(bench.start(job)[1] for job in jobs))
    assert len({settlement.result for settlement in settlements}) == 3


@pytest.fixture
def get_stuck(bench, tasks, tmp_path, wait_until):
    """Return a start of a job that will not end, with a grandchild; it gives the attempt, its task and both pids."""

    async def get_stuck(**fields):
        attempt, running = bench.start(await bench.claim(tasks["stubborn"], str(tmp_path), **fields))
        pids = tmp_path / "pids"
        await wait_until(lambda: pids.exists() or running.done())
        return attempt, running, [int(pid) for pid in pids.read_text().split()]

    return get_stuck


@pytest.mark.parametrize(
    ("stop", "end"), [(Stop.TIMEOUT, End.RETRY), (Stop.CANCEL, End.CANCEL), (Stop.SHUTDOWN, End.RELEASE)]
)
async def test_a_process_that_is_told_to_stop_is_killed_with_all_it_started(get_stuck, wait_until, stop, end):
    attempt, running, pids = await get_stuck()
    assert all(map(is_alive, pids))
    attempt.tell_to_stop(stop, "why")
    settlement = await asyncio.wait_for(running, 10)
    assert settlement.end is end
    # Settled only after its code has stopped.
    assert not is_alive(pids[0])
    await wait_until(lambda: not is_alive(pids[1]))


async def test_a_lost_job_is_killed_and_not_settled(get_stuck):
    attempt, running, pids = await get_stuck()
    attempt.tell_to_stop(Stop.LOST)
    assert await asyncio.wait_for(running, 10) is None
    assert not is_alive(pids[0])


async def test_a_real_timeout_kills_for_real(get_stuck):
    _, running, pids = await get_stuck(limit=timedelta(seconds=2))
    settlement = await asyncio.wait_for(running, 20)
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TimeoutError")
    assert not any(map(is_alive, pids))


async def test_closing_the_executor_kills_all_that_runs(bench, get_stuck, wait_until):
    _, running, pids = await get_stuck()
    await bench.executors[ExecutorKind.PROCESS].close()
    await wait_until(lambda: not any(map(is_alive, pids)))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_child_that_was_told_to_stop_and_still_finished_runs_no_other_job(
    bench, tasks, tmp_path, wait_until, monkeypatch
):
    executor = bench.executors[ExecutorKind.PROCESS]
    attempt, running = bench.start(await bench.claim(tasks["waits"], str(tmp_path)))
    await wait_until(lambda: attempt.pass_on)
    orders = []
    monkeypatch.setattr(executor.zygote, "_send", orders.append)
    attempt.tell_to_stop(Stop.CANCEL, "not wanted")
    (tmp_path / "go").touch()
    settlement = await running
    assert settlement.end is End.COMPLETE
    monkeypatch.undo()
    # The order arrives late.
    executor.zygote._send(orders[0])
    assert await pid_of(bench, tasks) != msgspec.json.decode(settlement.result)


async def test_progress_and_log_lines_come_from_there(bench, tasks):
    settlement = await bench.run(tasks["tells"])
    assert msgspec.json.decode(settlement.result)[1] is True
    job = await bench.backend.get(settlement.id)
    assert (job.progress.fraction, job.progress.message) == (0.25, "a quarter")
    assert "from the child" in job.log


async def test_a_context_does_not_last_from_one_job_to_the_next(bench, tasks):
    assert [(await bench.run(tasks["paints"])).result for _ in range(2)] == ['["none",28]'] * 2


@pytest.mark.parametrize("has_middleware", [False, True])
async def test_arguments_that_do_not_fit_are_given_back_for_the_grace(bench, tasks, has_middleware):
    seen = []

    async def around(job, proceed):
        seen.append(await proceed())
        return seen[-1]

    bench.middleware += [around] * has_middleware
    settlement = await bench.run(tasks["takes"].name, arguments='[["x"],{}]', max_attempts=1)
    assert (settlement.end, settlement.is_unfit, settlement.error) == (End.RELEASE, True, None)
    assert seen == [settlement] * has_middleware
    [event] = bench.of_kind(ArgumentsUnfit)
    assert event.reason.endswith("expected `int`, got `str`")
    job = await bench.claim(tasks["takes"].name, arguments="[[],{}]")
    _, running = bench.start(msgspec.structs.replace(job, unfit_since=job.claimed_at - timedelta(minutes=15)))
    settlement = await running
    assert (settlement.end, settlement.error.kind) == (End.FAIL, "InvalidArgumentsError")


async def test_arguments_are_read_once(bench, tasks):
    settlement = await bench.run(tasks["made"].name, arguments='[[{"number":1}],{}]')
    assert settlement.result == "1"


async def test_a_document_that_is_none_fails_the_job_at_once(bench, tasks):
    settlement = await bench.run(tasks["takes"].name, arguments="not json")
    assert (settlement.end, settlement.error.kind) == (End.FAIL, "InvalidArgumentsError")


async def test_a_killed_zygote_fails_what_ran_and_is_replaced(bench, tasks, get_stuck, wait_until):
    _, running, pids = await get_stuck()
    os.kill(bench.executors[ExecutorKind.PROCESS].zygote._process.pid, signal.SIGKILL)
    settlement = await asyncio.wait_for(running, 10)
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "ProcessDiedError")
    await wait_until(lambda: not is_alive(pids[0]))
    with suppress(ProcessLookupError):
        os.kill(pids[1], signal.SIGKILL)
    assert await pid_of(bench, tasks) != pids[0]


async def test_an_application_that_cannot_be_imported_there_is_a_clear_error(bench, application):
    module = application(
        """
        import multiprocessing, os
        from deeper_tasks import task
        if os.environ.get("ONLY_HERE") != str(os.getpid()):
            raise RuntimeError("no settings here")
        @task(executor="process")
        def pid(): return os.getpid()
        """
    )
    os.environ["ONLY_HERE"] = str(os.getpid())
    try:
        bench.registry = TaskRegistry()
        [task] = bench.registry.include(module)
        for _ in range(2):
            settlement = await bench.run(task)
            assert (settlement.end, settlement.error.kind) == (End.RETRY, "ProcessDiedError")
            assert "could not be imported in a process of its own" in settlement.error.message
            assert "no settings here" in settlement.error.message
    finally:
        del os.environ["ONLY_HERE"]


async def test_jobs_that_wait_for_the_same_process_in_vain_each_have_an_error_of_their_own(bench, monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(zygote_client, "_start_process", refuse)
    executor = bench.executors[ExecutorKind.PROCESS]
    one, other = await asyncio.gather(*(executor.zygote.start() for _ in range(2)), return_exceptions=True)
    assert str(one) == str(other) == "no process can be started now: Resource temporarily unavailable"
    assert one is not other


async def test_a_task_that_is_not_where_it_was_is_a_clear_error(bench, tasks):
    missing = tasks["pid"]
    missing.qualname = "moved_away"
    settlement = await bench.run(missing)
    assert settlement.end is End.RETRY
    assert "moved_away" in settlement.error.message


WORKER = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from deeper_tasks import BackgroundTaskManager
manager = BackgroundTaskManager("memory://", include=[sys.argv[2]])
async def main():
    async with manager:
        await manager.enqueue_task(sys.argv[2], "stubborn", [sys.argv[1]])
        await manager.run_worker({"default": 1})
asyncio.run(main())
"""


async def test_children_end_when_their_worker_is_killed(application, tmp_path, wait_until):
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, str(tmp_path), application())
    pids = tmp_path / "pids"
    await wait_until(lambda: pids.exists() or worker.returncode is not None)
    child, grandchild = map(int, pids.read_text().split())
    assert is_alive(child)
    worker.kill()
    await worker.wait()
    await wait_until(lambda: not is_alive(child) and not is_alive(grandchild))


@pytest.fixture
def pids_of(bench, tasks, tmp_path, wait_until):
    """Return a start of a task that tells its processes; it gives the attempt, its asyncio task and the pids."""

    async def pids_of(name, *args, **fields):
        attempt, running = bench.start(await bench.claim(tasks[name], str(tmp_path), *args, **fields))
        pids = tmp_path / "pids"
        await wait_until(lambda: pids.exists() or running.done())
        return attempt, running, [int(pid) for pid in pids.read_text().split()]

    return pids_of


@pytest.mark.parametrize("how", ["deaf", "busy in C"])
async def test_no_code_escapes_its_timeout(pids_of, how):
    _, running, pids = await pids_of("clings", how, limit=timedelta(seconds=2))
    settlement = await asyncio.wait_for(running, 30)
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TimeoutError")
    # With it ends what it had put into a session of its own.
    assert not any(map(is_alive, pids))


async def test_a_daemon_is_killed_with_the_job_that_started_it(pids_of):
    attempt, running, [daemon] = await pids_of("summons", "wait")
    assert is_alive(daemon)
    attempt.tell_to_stop(Stop.CANCEL, "why")
    assert (await asyncio.wait_for(running, 30)).end is End.CANCEL
    assert not is_alive(daemon)


async def test_a_daemon_ends_when_the_process_that_started_it_crashes(pids_of):
    _, running, [daemon] = await pids_of("summons", "segfault")
    settlement = await asyncio.wait_for(running, 30)
    assert settlement.error.message == "the process that ran this job was ended by signal 11 (SIGSEGV)"
    assert not is_alive(daemon)


async def test_a_daemon_outlives_the_job_that_returned_but_not_the_worker(bench, pids_of):
    _, running, [daemon] = await pids_of("summons", "return")
    assert (await asyncio.wait_for(running, 30)).end is End.COMPLETE
    assert is_alive(daemon)
    await bench.executors[ExecutorKind.PROCESS].close()
    assert not is_alive(daemon)


async def test_a_process_in_which_others_have_ended_unnoticed_runs_no_other_job(bench, tasks, pids_of, wait_until):
    _, running, [daemon] = await pids_of("summons", "return")
    first = msgspec.json.decode((await asyncio.wait_for(running, 30)).result)
    os.kill(daemon, signal.SIGKILL)
    await wait_until(lambda: not is_alive(daemon))
    # It sees so at the end of its next job, and leaves no dead process behind.
    assert await pid_of(bench, tasks) == first
    assert await pid_of(bench, tasks) != first
    await wait_until(lambda: not Path(f"/proc/{daemon}").exists())


async def test_a_job_that_exhausts_its_file_descriptors_costs_the_next_one_nothing(bench, tasks):
    before = await pid_of(bench, tasks)
    settlement = await bench.run(tasks["opens_all"])
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "OSError")
    assert await pid_of(bench, tasks) != before


async def test_neighbours_run_on_while_others_die(bench, tasks, tmp_path):
    neighbour = bench.start(await bench.claim(tasks["waits"], str(tmp_path)))[1]
    for how in ("segfault", "os._exit", "kill", "abort", "bytes"):
        assert (await bench.run(tasks["ends"], how)).error.kind == "ProcessDiedError"
    assert not neighbour.done()
    (tmp_path / "go").touch()
    assert (await asyncio.wait_for(neighbour, 30)).end is End.COMPLETE


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_start_is_written_when_the_process_is_there(bench, tasks, monkeypatch, is_ours):
    processes = bench.executors[ExecutorKind.PROCESS]
    children, write = [], bench.reporter.mark_started

    async def mark_started(job):
        children.append(len(processes.zygote._children))
        return is_ours and await write(job)

    monkeypatch.setattr(bench.reporter, "mark_started", mark_started)
    _, running = bench.start(await bench.claim(tasks["tells"], slots=0, max_attempts=1))
    settlement = await asyncio.wait_for(running, 20)
    assert children == [1]
    assert len(bench.of_kind(JobStarted)) == is_ours
    assert (settlement is not None) is is_ours


# Memory.


@pytest.mark.parametrize(("name", "args"), [("grows", [400]), ("has_others_grow", [])])
async def test_a_job_that_uses_more_memory_than_its_limit_is_killed(bench, tasks, name, args):
    settlement = await bench.run(tasks[name], *args)
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "MemoryLimitError")
    assert settlement.error.message == "used more than 150 MB of memory"


async def test_the_limit_of_the_settings_counts_for_tasks_without_one(make_bench, memory, application):
    bench = await make_bench(memory, process_memory_limit_mb=150)
    tasks = {task.name.rpartition(".")[2]: task for task in bench.registry.include(application())}
    tasks["grows"].memory_limit_mb = UNSET
    assert (await bench.run(tasks["grows"], 400)).error.kind == "MemoryLimitError"
    assert (await bench.run(tasks["grows_at_will"], 400)).end is End.COMPLETE


async def test_a_limit_ends_with_its_job(bench, tasks, wait_until):
    limited = msgspec.json.decode((await bench.run(tasks["grows"], 1)).result)
    await wait_until(lambda: bench.executors[ExecutorKind.PROCESS]._idle)
    settlement = await bench.run(tasks["grows_at_will"], 400)
    assert msgspec.json.decode(settlement.result) == limited
    assert await pid_of(bench, tasks) == limited


async def test_a_job_does_not_pay_for_the_memory_that_those_before_it_left_in_use(bench, tasks):
    big = msgspec.json.decode((await bench.run(tasks["grows_at_will"], 400)).result)
    settlement = await bench.run(tasks["grows"], 1)
    assert settlement.end is End.COMPLETE
    assert msgspec.json.decode(settlement.result) != big


async def test_a_delay_function_that_exits_ends_no_process_and_costs_no_job(bench, tasks):
    for how, kind in (("error", "ValueError"), ("exit", "SystemExit")):
        settlement = await bench.run(tasks["fails_by"], how)
        assert (settlement.end, settlement.error.kind) == (End.RETRY, kind)


async def test_fail_on_takes_the_limit_for_the_memory_error_it_is(bench, tasks):
    tasks["grows"].retry = RetryPolicy(fail_on=(MemoryError,))
    assert (await bench.run(tasks["grows"], 400)).end is End.FAIL


async def test_a_system_that_does_not_tell_memory_is_said_to_keep_no_limits(bench, tasks, caplog, monkeypatch):
    monkeypatch.setattr(process, "is_memory_known", lambda: False)
    for _ in range(2):
        assert (await bench.run(tasks["grows"], 1)).end is End.COMPLETE
    assert caplog.text.count("memory limits are not enforced") == 1


# The application's import.

SLOW_IMPORT = """
    import os, time
    from pathlib import Path
    from deeper_tasks import task

    if os.getpid() != {here}:
        while not Path({go!r}).exists():
            time.sleep(0.005)

    @task(executor="process")
    def pid(): return os.getpid()
"""


@pytest.fixture
def slow_task(bench, application, tmp_path):
    """A task whose module is not imported elsewhere until the file `go` is there."""
    bench.registry = TaskRegistry()
    [task] = bench.registry.include(application(SLOW_IMPORT.format(here=os.getpid(), go=str(tmp_path / "go"))))
    return task


async def test_the_timeout_counts_from_when_a_child_has_the_job_and_not_while_the_application_is_imported(
    bench, slow_task, tmp_path, wait_until
):
    executor, limit = bench.executors[ExecutorKind.PROCESS], timedelta(hours=1)
    attempt, running = bench.start(await bench.claim(slow_task, limit=limit))
    await wait_until(lambda: executor.zygote._control is not None)
    assert attempt.deadline is None
    released_at = bench.clock.monotonic()
    (tmp_path / "go").touch()
    assert (await asyncio.wait_for(running, 30)).end is End.COMPLETE
    assert attempt.deadline >= released_at + limit.total_seconds()


async def test_an_import_that_does_not_end_is_given_up(bench, slow_task, monkeypatch):
    monkeypatch.setattr(preparation, "LONGEST", 0.3)
    settlement = await bench.run(slow_task)
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "ProcessDiedError")
    assert "could not be imported in a process of its own: " in settlement.error.message
    assert settlement.error.message.endswith(" did not end within 300 ms")


async def test_closing_does_not_wait_for_the_application_s_import(bench, slow_task, wait_until):
    executor = bench.executors[ExecutorKind.PROCESS]
    _, running = bench.start(await bench.claim(slow_task))
    await wait_until(lambda: executor.zygote._control is not None)
    await asyncio.wait_for(executor.close(), 30)
    assert (await asyncio.wait_for(running, 30)).error.kind == "ProcessDiedError"


async def test_a_process_that_the_application_s_import_starts_is_left_alone(bench, application, tmp_path, wait_until):
    module = application(
        f"""
        import os, subprocess, sys
        from pathlib import Path
        from deeper_tasks import task
        if os.getpid() != {os.getpid()}:
            helper = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        @task(executor="process")
        def dies(): os._exit(1)
        @task(executor="process")
        def pid(): return helper.pid
        """
    )
    bench.registry = TaskRegistry()
    tasks = {task.name.rpartition(".")[2]: task for task in bench.registry.include(module)}
    helper = msgspec.json.decode((await bench.run(tasks["pid"])).result)
    assert (await bench.run(tasks["dies"])).error.kind == "ProcessDiedError"
    assert is_alive(helper)
    await bench.executors[ExecutorKind.PROCESS].close()
    await wait_until(lambda: not is_alive(helper))


async def test_a_job_that_is_told_to_stop_before_there_is_a_process_for_it_is_given_back_unbegun(
    bench, slow_task, tmp_path, wait_until
):
    executor = bench.executors[ExecutorKind.PROCESS]
    attempt, running = bench.start(await bench.claim(slow_task))
    await wait_until(lambda: executor.zygote._control is not None)
    attempt.tell_to_stop(Stop.SHUTDOWN, "the worker shuts down")
    assert (await asyncio.wait_for(running, 30)).end is End.RELEASE
    (tmp_path / "go").touch()
    # The import went on for the others, and so did the fork.
    await wait_until(lambda: executor._idle)
    [child] = executor._idle
    assert msgspec.json.decode((await bench.run(slow_task)).result) == child.pid


# The zygote.

TROUBLED = """
    import os, threading, time
    from pathlib import Path
    from deeper_tasks import task

    def wait_for(name):
        while not Path({folder!r}, name).exists():
            time.sleep(0.005)

    def babble():
        wait_for("babble")
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and os.path.exists(f"/proc/self/fd/{{fd}}") and "socket" in os.readlink(f"/proc/self/fd/{{fd}}"):
                os.write(fd, b"\\0\\0\\0\\2{{}}")

    if os.getpid() != {here}:
        threading.Thread(target=babble, daemon=True).start()
        fork = os.fork
        def fork_if_there_is_room():
            if Path({folder!r}, "full").exists():
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return fork()
        os.fork = fork_if_there_is_room

    @task(executor="process")
    def pid(): return os.getpid()

    @task(executor="process")
    def waits(): wait_for("go")

    @task(executor="process")
    def inheritable():
        fds = [int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > 2]
        return [os.readlink(f"/proc/self/fd/{{fd}}") for fd in fds if is_inheritable(fd)]

    def is_inheritable(fd):
        try:
            return os.get_inheritable(fd)
        except OSError:
            return False
"""


@pytest.fixture
def troubled(bench, application, tmp_path):
    """Tasks of a module that makes trouble in the zygote when files with certain names are there."""
    bench.registry = TaskRegistry()
    module = application(TROUBLED.format(here=os.getpid(), folder=str(tmp_path)))
    return {task.name.rpartition(".")[2]: task for task in bench.registry.include(module)}


async def test_a_fork_that_fails_costs_its_own_job_an_attempt_and_no_other(bench, troubled, tmp_path, wait_until):
    _, waiting = bench.start(await bench.claim(troubled["waits"]))
    await wait_until(lambda: bench.executors[ExecutorKind.PROCESS].zygote._children)
    (tmp_path / "full").touch()
    settlement = await bench.run(troubled["pid"])
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "ProcessDiedError")
    assert "no process can be forked now: [Errno 11]" in settlement.error.message
    (tmp_path / "full").unlink()
    assert (await bench.run(troubled["pid"])).end is End.COMPLETE
    (tmp_path / "go").touch()
    assert (await asyncio.wait_for(waiting, 30)).end is End.COMPLETE


async def test_a_zygote_that_cannot_be_understood_is_replaced(bench, troubled, tmp_path, wait_until, caplog):
    before = msgspec.json.decode((await bench.run(troubled["pid"])).result)
    _, waiting = bench.start(await bench.claim(troubled["waits"]))
    await wait_until(lambda: not bench.executors[ExecutorKind.PROCESS]._idle)
    (tmp_path / "babble").touch()
    assert (await asyncio.wait_for(waiting, 30)).error.kind == "ProcessDiedError"
    (tmp_path / "babble").unlink()
    await wait_until(lambda: bench.executors[ExecutorKind.PROCESS].zygote._listening is None)
    assert msgspec.json.decode((await bench.run(troubled["pid"])).result) != before
    assert "another one takes its place" in caplog.text


async def test_what_a_job_starts_inherits_nothing_of_the_worker_s(bench, troubled):
    assert msgspec.json.decode((await bench.run(troubled["inheritable"])).result) == []


# A middleware with a timeout of its own.


async def _hurry(job, proceed):
    async with asyncio.timeout(None) as limit:
        hurried.append(limit)
        return await proceed()


hurried = []


async def test_a_middleware_that_breaks_off_ends_the_process_that_ran_the_job(bench, tasks, pids_of_middleware):
    settlement, pids = await pids_of_middleware()
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TimeoutError")
    assert not any(map(is_alive, pids))
    assert (await bench.run(tasks["pid"])).end is End.COMPLETE


@pytest.fixture
def pids_of_middleware(bench, tasks, tmp_path, wait_until):
    """Have a job broken off by the middleware; returns its end, and the processes that it ran in."""

    async def pids_of_middleware():
        bench.middleware.append(_hurry)
        _, running = bench.start(await bench.claim(tasks["stubborn"], str(tmp_path)))
        await wait_until((tmp_path / "pids").exists)
        hurried.pop().reschedule(0)
        settlement = await asyncio.wait_for(running, 30)
        return settlement, [*map(int, (tmp_path / "pids").read_text().split())]

    return pids_of_middleware


async def test_a_middleware_that_breaks_off_before_there_is_a_process_harms_no_other_job(
    bench, slow_task, tmp_path, wait_until
):
    executor = bench.executors[ExecutorKind.PROCESS]
    bench.middleware.append(_hurry)
    _, running = bench.start(await bench.claim(slow_task))
    await wait_until(lambda: executor.zygote._control is not None)
    hurried.pop().reschedule(0)
    assert (await asyncio.wait_for(running, 30)).error.kind == "TimeoutError"
    (tmp_path / "go").touch()
    assert (await bench.run(slow_task)).end is End.COMPLETE


async def test_where_no_process_can_be_started_the_attempt_fails_and_the_next_may_have_one(bench, tasks, monkeypatch):
    def start(*arguments, **options):
        raise BlockingIOError("no more processes")

    with monkeypatch.context() as patch:
        patch.setattr(zygote_client, "_start_process", start)
        settlement = await bench.run(tasks["pid"])
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "ProcessDiedError")
    assert settlement.error.message == "no process can be started now: no more processes"
    assert (await bench.run(tasks["pid"])).end is End.COMPLETE


@pytest.mark.parametrize("is_trusted", [False, True])
async def test_jobs_that_end_with_the_process_which_forked_them_go_into_quarantine(
    bench, tasks, tmp_path, wait_until, is_trusted
):
    tasks["stubborn"].has_quarantine = not is_trusted
    _, neighbour = bench.start(await bench.claim(tasks["stubborn"], str(tmp_path)))
    await wait_until((tmp_path / "pids").exists)
    killer = await bench.run(tasks["ends"], "parent")
    # Nothing is left that would end what the neighbour had started.
    _, helper = (tmp_path / "pids").read_text().split()
    with suppress(ProcessLookupError):
        os.kill(int(helper), signal.SIGKILL)
    for settlement, is_apart in ((killer, True), (await neighbour, not is_trusted)):
        assert (settlement.end, settlement.error.kind, settlement.is_process_lost) == (
            End.RETRY,
            "ProcessDiedError",
            is_apart,
        )
    alone = await bench.run(tasks["ends"], "kill")
    assert (alone.error.kind, alone.is_process_lost) == ("ProcessDiedError", False)
