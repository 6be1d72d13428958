"""The family of a process and its memory, as real processes have them."""

import os
import subprocess
import sys

import pytest

from deeper_tasks.worker.execution.executors.family import children_of, has_ended, is_memory_known, memory_above

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

MEGABYTE = 1024 * 1024

PARENT = """
import os, sys
big = b"x" * (int(sys.argv[1]) * 2**20)
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start():
    """Return a start of a process with so many megabytes, which it shares with so many children."""
    started = []

    def start(megabytes=1, *, children=0):
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(megabytes), str(children)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_a_child_belongs_to_its_parent_until_it_is_waited_for(start):
    process = start(children=2)
    assert process.pid in children_of(os.getpid())
    assert len(children_of(process.pid)) == 2
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert has_ended(process.pid)
    assert process.pid in children_of(os.getpid())
    process.wait()
    assert has_ended(process.pid)
    assert process.pid not in children_of(os.getpid())
    assert children_of(process.pid) == set()


def test_memory_is_told_above_the_limit_only(start):
    assert is_memory_known()
    process = start(100)
    assert not has_ended(process.pid)
    assert memory_above(process.pid, 400 * MEGABYTE) is None
    assert 100 * MEGABYTE < memory_above(process.pid, 90 * MEGABYTE) < 200 * MEGABYTE


def test_memory_that_is_shared_counts_once(start):
    process = start(100, children=3)
    # Each of the four has more than 100 MB resident, and nearly all of it is the same.
    assert memory_above(process.pid, 250 * MEGABYTE) is None
    assert memory_above(process.pid, 90 * MEGABYTE) > 100 * MEGABYTE


def test_the_memory_of_what_it_started_counts(start):
    process = start(100)
    assert memory_above(os.getpid(), 100 * MEGABYTE) > memory_above(process.pid, 90 * MEGABYTE)


def test_a_process_that_is_gone_uses_nothing(start):
    process = start()
    process.kill()
    process.wait()
    assert memory_above(process.pid, 0) is None
