"""The surroundings of jobs in a process: what one job leaves there, the next one does not meet."""

import importlib
import json
import os
import sys
import textwrap

import pytest

from deeper_tasks.domain.settlement import End
from deeper_tasks.tasks import TaskRegistry

APPLICATION = """
    import asyncio, contextlib, functools, gc, io, locale, os, resource, signal, socket, sys, time
    from deeper_tasks import task

    class Row:
        def __repr__(self): raise RuntimeError("detached")

    class Misnamed(Exception):
        def __repr__(self): return self.name.upper()

    def nested(depth):
        error = ValueError("inmost")
        for _ in range(depth):
            error = ExceptionGroup("outer", [error])
        return error

    ERRORS = {
        "of a row": lambda: LookupError(Row()),
        "misnamed": lambda: Misnamed("a"),
        "nested deep": lambda: nested(3000),
    }

    @task(executor="process")
    async def fails(how: str): raise ERRORS[how]()

    def passes_on(function):
        @functools.wraps(function)
        def wrapper(*args): return function(*args)
        return wrapper

    @task(executor="process")
    @passes_on
    async def fails_in_a_wrapper(how: str): raise ERRORS[how]()

    @task(executor="process")
    def fails_in_asyncio_run(how: str): asyncio.run(fails.function(how))

    @task(executor="process")
    async def fails_in_a_part(how: str):
        part = asyncio.create_task(fails.function(how))
        await asyncio.wait({part})

    @task(executor="process")
    async def fine(): return os.getpid()

    class Handler:
        def __repr__(self): raise RuntimeError("detached")
        def __call__(self, *args): raise KeyError("of another job")

    def close_loop():
        loop = asyncio.get_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self): raise RuntimeError("not any more")

    def keep_loop():
        asyncio.set_event_loop_policy(Policy())

    def run_loop_of_own():
        asyncio._set_running_loop(asyncio.new_event_loop())

    class Stream(io.StringIO):
        def flush(self): raise RuntimeError("no flush")

    def limit_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    def limit_files_for_good():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    def leave_removed_folder():
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")

    CHANGES = {
        "a handler of SIGINT": lambda: signal.signal(signal.SIGINT, Handler()),
        "a handler of SIGTERM": lambda: signal.signal(signal.SIGTERM, Handler()),
        "an ignored signal": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        "a blocked signal": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}),
        "an alarm": lambda: signal.alarm(1000),
        "a timer": lambda: signal.setitimer(signal.ITIMER_PROF, 1000),
        "the working folder": lambda: os.chdir("/"),
        "a removed folder": leave_removed_folder,
        "the umask": lambda: os.umask(0o777),
        "a stream": lambda: setattr(sys, "stdout", Stream()),
        "a closed stream": lambda: sys.stdout.close(),
        "a descriptor": lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2),
        "the locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
        "the recursion limit": lambda: sys.setrecursionlimit(150),
        "a profile function": lambda: sys.setprofile(lambda *_: None),
        "garbage collection": lambda: gc.disable(),
        "the timeout of sockets": lambda: socket.setdefaulttimeout(0.001),
        "a closed loop": close_loop,
        "a policy of loops": keep_loop,
        "a running loop": run_loop_of_own,
        "a limit": limit_files,
        "a hard limit": limit_files_for_good,
    }

    @task(executor="process")
    def changes(what: str):
        CHANGES[what]()
        return os.getpid()

    def mask():
        before = os.umask(0)
        os.umask(before)
        return before

    @task(executor="process")
    def looks():
        loop = asyncio.get_event_loop()
        return [
            str([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]),
            len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            signal.getitimer(signal.ITIMER_REAL)[0] + signal.getitimer(signal.ITIMER_PROF)[0],
            os.getcwd(), mask(), type(sys.stdout).__name__, sys.stdout.closed, os.stat(2).st_ino,
            locale.setlocale(locale.LC_ALL), sys.getrecursionlimit(), sys.getprofile() is None, gc.isenabled(),
            socket.getdefaulttimeout(), loop.is_closed(), type(asyncio.get_event_loop_policy()).__name__,
            resource.getrlimit(resource.RLIMIT_NOFILE),
        ]

    class Hostile(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self): raise OSError("no loop here")

    @task(executor="process")
    def spoils():
        # Where the process does not look.
        asyncio.Runner.get_loop = lambda self: Hostile().new_event_loop()
        return os.getpid()
"""


@pytest.fixture
def tasks(bench, tmp_path, monkeypatch):
    name = f"surrounded_{os.getpid()}_{len(sys.modules)}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(APPLICATION))
    monkeypatch.syspath_prepend(str(tmp_path))
    # Where jobs run that remove their folder.
    monkeypatch.chdir(tmp_path)
    bench.registry = TaskRegistry()
    yield {task.name.rpartition(".")[2]: task for task in bench.registry.include(name)}
    sys.modules.pop(name, None)


async def result_of(bench, task, *args):
    settlement = await bench.run(task, *args)
    assert settlement.end is End.COMPLETE, settlement.error
    return json.loads(settlement.result)


async def test_an_error_without_a_repr_is_told_as_itself_and_spoils_no_other_job(bench, tasks):
    before = await result_of(bench, tasks["fine"])
    for how, kind in (("of a row", "LookupError"), ("misnamed", "Misnamed"), ("nested deep", "ExceptionGroup")):
        for where in ("fails", "fails_in_a_wrapper", "fails_in_asyncio_run", "fails_in_a_part"):
            settlement = await bench.run(tasks[where], how)
            if where in ("fails", "fails_in_a_wrapper"):
                assert settlement.error.kind == kind, (how, where)
            assert await result_of(bench, tasks["fine"]) == before, (how, where)


async def test_a_job_meets_nothing_that_another_has_changed(bench, tasks):
    at_first = await result_of(bench, tasks["looks"])
    for change in importlib.import_module(tasks["looks"].module).CHANGES:
        changed_in = await result_of(bench, tasks["changes"], change)
        assert await result_of(bench, tasks["looks"]) == at_first, change
        again_in = await result_of(bench, tasks["fine"])
        # What cannot be put back takes a new process.
        assert (again_in != changed_in) is (change in {"a closed stream", "a descriptor", "a hard limit"}), change


async def test_a_job_whose_process_cannot_begin_it_runs_in_a_new_one(bench, tasks, caplog):
    spoilt = await result_of(bench, tasks["spoils"])
    assert await result_of(bench, tasks["fine"]) != spoilt
    assert "OSError: no loop here" in caplog.text
