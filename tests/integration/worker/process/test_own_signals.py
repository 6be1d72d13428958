"""Signals that a worker handles for itself: the processes that its jobs fork have a clean state of signals."""

import json
import subprocess
import sys
import textwrap

import pytest

HEAD = """
    import asyncio, json, multiprocessing, os, signal, subprocess, sys, threading, time
    from concurrent.futures import ThreadPoolExecutor
    from deeper_tasks import BackgroundTaskManager
    from deeper_tasks.worker.process.own_signals import handle_alone

    context = multiprocessing.get_context("fork")

    def told_to_stop(process):
        process.start()
        process.terminate()
        process.join()
        return process.exitcode
"""

WORKER = """
    manager = BackgroundTaskManager("memory://", poll_interval_seconds=0.05)
    heard = []

    @manager.task
    def ends():
        with context.Pool(2) as pool:
            assert pool.map(abs, [-1, 2]) == [1, 2]
        return told_to_stop(context.Process(target=time.sleep, args=(99,)))

    @manager.task
    def returns():
        process = context.Process(target=int)
        process.start()
        process.join()
        return process.exitcode

    @manager.task
    def prepares():
        preparing, prepared = os.pipe()
        def prepare():
            os.write(prepared, b"%d" % os.getpid())
            time.sleep(99)
        def stop():
            os.kill(int(os.read(preparing, 99)), signal.SIGTERM)
        stopping = threading.Thread(target=stop)
        stopping.start()
        try:
            return subprocess.Popen(["true"], preexec_fn=prepare).wait()
        finally:
            stopping.join()

    @manager.task
    def prints():
        print("printed once")
        return copy_ends_by(lambda: None)

    @manager.task
    async def forks_in_a_pool():
        return await asyncio.get_running_loop().run_in_executor(None, copy_ends_by, lambda: None)

    @manager.task
    def forks_in_a_thread():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(copy_ends_by, lambda: time.sleep(99), signal.SIGUSR1).result()

    def copy_ends_by(act, number=None):
        pid = os.fork()
        if not pid:
            act()
            return
        if number is not None:
            os.kill(pid, number)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    async def main():
        workers = []
        for number in (signal.SIGTERM, signal.SIGUSR1):
            asyncio.get_running_loop().add_signal_handler(number, heard.append, number)
        async with manager:
            working = asyncio.create_task(manager.run_worker(handle_signals=False, on_start=workers.append))
            for task in (ends, returns, prepares, prints, forks_in_a_pool, forks_in_a_thread):
                told = await manager.result(await task.enqueue(), timeout=20)
                print(json.dumps([task.qualname, told]), file=sys.stderr)
            print(json.dumps(["heard", heard]), file=sys.stderr)
            workers[0].stop()
            await working

    if __name__ == "__main__":
        asyncio.run(main())
"""

ALONE = """
    handlers = [lambda *_: None for _ in range(3)]
    signal.signal(signal.SIGUSR2, handlers[0])
    handle_alone(signal.SIGTERM, handlers[1])
    handle_alone(signal.SIGUSR2, handlers[2])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    def look():
        mine = signal.getsignal(signal.SIGUSR2) is handlers[0]
        mask = {*signal.pthread_sigmask(signal.SIG_BLOCK, ())}
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os._exit(mine + 2 * (mask == {signal.SIGUSR1}) + 4 * ignored)

    looking = context.Process(target=look)
    looking.start()
    looking.join()
    ended = told_to_stop(context.Process(target=time.sleep, args=(99,)))
    kept = signal.getsignal(signal.SIGTERM) is handlers[1]
    mask = [*signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    print(json.dumps([looking.exitcode, ended, kept, mask == [signal.SIGUSR1]]))
"""


@pytest.fixture
def run(tmp_path):
    def run(program):
        (tmp_path / "program.py").write_text(textwrap.dedent(HEAD) + textwrap.dedent(program))
        return subprocess.run(
            [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_signals_to_what_jobs_fork_do_not_reach_the_loop_of_a_worker_whose_program_handles_them(run):
    ended = run(WORKER)
    assert ended.returncode == 0, ended.stderr
    told = dict(json.loads(line) for line in ended.stderr.splitlines() if line.startswith("["))
    assert told == {
        "ends": -15,
        "returns": 0,
        "prepares": -15,
        "prints": 0,
        "forks_in_a_pool": 0,
        "forks_in_a_thread": -10,
        "heard": [],
    }
    assert ended.stdout == "printed once\n"


def test_a_copy_has_the_handlers_from_before_and_what_was_blocked_and_ignored(run):
    ended = run(ALONE)
    assert ended.stderr == ""
    assert json.loads(ended.stdout) == [7, -15, True, True]
