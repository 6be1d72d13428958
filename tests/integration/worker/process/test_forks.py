"""Jobs that fork, and signals: what a job starts is neither the worker nor the job, and inherits nothing of either."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

APPLICATION = """
    import asyncio, json, multiprocessing, os, signal, subprocess, sys, time
    from pathlib import Path
    from deeper_tasks import BackgroundTaskManager, current_job
    from deeper_tasks.integrations.events import JobCompleted, WorkerStarted, WorkerStopping

    manager = BackgroundTaskManager("memory://", poll_interval_seconds=0.05, queues={"default": 2})
    begun = Path("begun")

    terminated = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    terminated.start()
    terminated.terminate()
    terminated.join()

    def fork(how):
        match how:
            case "multiprocessing":
                process = multiprocessing.get_context("fork").Process(target=current_job().progress, args=(0.5,))
                process.start()
                process.join()
                return process.exitcode
            case "terminate":
                process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
                process.start()
                process.terminate()
                process.join()
                return process.exitcode
        pid = os.fork()
        if pid:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        match how:
            case "return": return "of the copy"
            case "exit": sys.exit(3)
            case "exit with words": sys.exit("some words")
            case "raise": raise ValueError("of the copy")
            case "os._exit": os._exit(4)
            case "await": return None

    @manager.task(executor="process")
    def in_a_process(how: str):
        return [how, fork(how), os.getpid()]

    @manager.task
    def in_a_thread(how: str):
        return [how, fork(how), os.getpid()]

    async def fork_in_a_coroutine(how):
        code = fork(how)
        if code is None:
            await asyncio.sleep(0)
        return [how, code, os.getpid()]

    @manager.task
    async def in_a_coroutine(how: str):
        return await fork_in_a_coroutine(how)

    @manager.task
    async def in_a_thread_of_a_coroutine(how: str):
        return [how, await asyncio.to_thread(fork, how), os.getpid()]

    @manager.task(executor="process")
    async def in_a_process_with_a_loop(how: str):
        return await fork_in_a_coroutine(how)

    @manager.task(executor="process")
    def signals():
        return [
            Path("/proc/self/status").read_text(),
            subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout,
            signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            terminated.exitcode,
        ]

    @manager.task(executor="process")
    def waits():
        begun.touch()
        while begun.exists():
            time.sleep(0.005)
        return "done in the grace"

    async def drive():
        for task in (in_a_process, in_a_process_with_a_loop, in_a_thread, in_a_thread_of_a_coroutine, in_a_coroutine):
            tell(task.qualname, [await manager.result(await task.enqueue(how), timeout=20) for how in HOWS])
        tell("signals", await manager.result(await signals.enqueue(), timeout=20))
        job = await waits.enqueue()
        while not begun.exists():
            await asyncio.sleep(0.005)
        manager.subscribe(lambda _: begun.unlink(), WorkerStopping)
        tell("waiting", None)
        tell("waits", await manager.result(job, timeout=20))
        tell("completed", completed)

    def tell(what, value):
        print(json.dumps([what, value]), flush=True)

    HOWS = ["return", "exit", "exit with words", "raise", "os._exit", "await", "multiprocessing", "terminate"]
    completed = []

    async def main():
        tell("worker", os.getpid())
        manager.subscribe(lambda event: completed.append(event.job_id), JobCompleted)
        async with manager:
            driving = asyncio.create_task(drive())
            await manager.run_worker()
            await driving

    if __name__ == "__main__":
        asyncio.run(main())
"""

EVERYWHERE = ("in_a_process", "in_a_process_with_a_loop", "in_a_thread", "in_a_thread_of_a_coroutine", "in_a_coroutine")


def ignore_and_block():
    """As a shell without job control starts a program in the background, and as a supervisor may that blocks."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})


@pytest.fixture
def worker(tmp_path):
    (tmp_path / "forking.py").write_text(textwrap.dedent(APPLICATION))
    with (
        (tmp_path / "stderr").open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "forking.py"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=ignore_and_block,  # noqa: PLW1509 - this process has no other threads that matter
            start_new_session=True,
        ) as process,
    ):
        yield process
        process.kill()


def test_what_a_job_forks_ends_with_the_handler_and_signals_are_those_of_a_fresh_process(worker, tmp_path):
    told = dict(json.loads(line) for line in iter(worker.stdout.readline, "") if _goes_on(worker, line))
    words = (tmp_path / "stderr").read_text()
    assert worker.wait() == 0, words
    codes = {"return": 0, "exit": 3, "exit with words": 1, "raise": 1, "os._exit": 4}
    codes |= {"multiprocessing": 0, "terminate": -signal.SIGTERM}
    for where in EVERYWHERE:
        expected = {**codes, "await": 1 if where in ("in_a_process_with_a_loop", "in_a_coroutine") else 0}
        assert {how: code for how, code, _ in told[where]} == expected, words
        # The copies were taken for no end of a job, and served none: one process has run them all.
        [pid] = {pid for _, _, pid in told[where]}
        assert (pid == told["worker"]) == ("process" not in where)
    assert len(told["completed"]) == len(set(told["completed"])) == len(EVERYWHERE) * 8 + 2
    assert "some words" in words
    assert "cannot await anything" in words

    child, program, *handlers = told["signals"]
    # The last was forked at the import, which the process that forks the others did too.
    assert handlers == [True, True, -signal.SIGTERM]
    assert _mask(child, "SigBlk") == _mask(program, "SigBlk") == 0
    # Every Python ignores these two itself, and gives programs that it starts the default back.
    assert _mask(child, "SigIgn") == sum(1 << number - 1 for number in (signal.SIGPIPE, signal.SIGXFSZ))
    assert _mask(program, "SigIgn") == 0
    assert told["waits"] == "done in the grace"


def _goes_on(worker, line):
    """Press Ctrl-C, which reaches the whole group, while a process runs a job."""
    if json.loads(line)[0] == "waiting":
        os.killpg(worker.pid, signal.SIGINT)
    return True


def _mask(status, name):
    [line] = [line for line in status.splitlines() if line.startswith(name)]
    # Without those that the C library keeps for itself, and ignores in what it spawns.
    return int(line.split()[1], 16) & sum(1 << number - 1 for number in signal.valid_signals())
