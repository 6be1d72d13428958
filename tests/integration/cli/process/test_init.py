"""The init that process 1 of a container becomes, played by a process that the kernel gives orphans to as well."""

import json
import signal
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import ctypes, json, os, signal, subprocess, sys
    from pathlib import Path
    from deeper_tasks.cli.process.init import leave_init_behind

    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    init = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    leave_init_behind(number=init)
    assert os.getpid() != init and os.getppid() == init

    def children():
        return [int(pid) for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split()]

    orphans, codes = [], []
    for code in range(5):
        shell = subprocess.run(["sh", "-c", f"true & echo $!; exit {code}"], stdout=subprocess.PIPE)
        orphans.append(int(shell.stdout))
        codes.append(shell.returncode)
    while set(orphans) & set(children()):
        pass
    mask = [*signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    print(json.dumps([codes, mask, os.getsid(0) == os.getpid()]), flush=True)
    end = sys.argv[1]
    if end == "wait":
        print(signal.sigwait({signal.SIGHUP, signal.SIGTERM, signal.SIGUSR2}).name, flush=True)
    elif end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(7)
"""


@pytest.fixture
def init(tmp_path):
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    started = []

    def init(end):
        process = subprocess.Popen(
            [sys.executable, "program.py", end],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        codes, mask, leads_session = json.loads(process.stdout.readline())
        assert codes == [0, 1, 2, 3, 4]
        assert mask == [signal.SIGUSR2]
        assert leads_session
        return process

    yield init
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are given to an ancestor on Linux only")


def test_an_init_reaps_orphans_and_passes_signals_and_the_exit_code_on(init):
    process = init("wait")
    process.send_signal(signal.SIGUSR2)
    assert process.stdout.readline().strip() == "SIGUSR2"
    assert process.wait(30) == 7


def test_an_init_whose_worker_was_killed_says_so_by_its_exit_code(init):
    assert init("kill").wait(30) == 128 + signal.SIGKILL
