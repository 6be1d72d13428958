"""The write_lock: processes that write take turns, none waits for ever, and a killed one holds nobody up."""

import contextlib
import threading
import time
from itertools import groupby

import pytest

from deeper_tasks.backends.sqlite.write_lock import WriteLock
from deeper_tasks.errors import BackendUnavailableError

HOLD = """
import sys
from pathlib import Path
from deeper_tasks.backends.sqlite.write_lock import WriteLock
with WriteLock(Path(sys.argv[1]), timeout=10).turn():
    print("holding", flush=True)
    sys.stdin.readline()
print("left", flush=True)
"""

WRITE_ON_AND_ON = """
import sys, time
from pathlib import Path
from deeper_tasks.backends.sqlite.write_lock import WriteLock
write_lock = WriteLock(Path(sys.argv[1]), timeout=20)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    with write_lock.turn(), open(sys.argv[1], "ab", 0) as log:
        log.write(sys.argv[2].encode())
        time.sleep(0.002)
"""


@pytest.fixture
def write_lock(path):
    write_lock = WriteLock(path, timeout=0.05)
    yield write_lock
    write_lock.close()


def test_a_turn_that_does_not_come_in_time_is_a_clear_error(write_lock, path, program):
    holder = program(HOLD, path)
    assert holder.stdout.readline() == "holding\n"
    with pytest.raises(BackendUnavailableError, match=r"locked by another process for longer than 50 ms") as raised:
        write_lock.turn().__enter__()
    assert repr(str(path)) in str(raised.value)
    holder.communicate("\n")
    with write_lock.turn():
        pass


def test_who_waited_in_vain_does_not_stand_in_the_way_of_others(path, program, write_lock):
    holder = program(HOLD, path)
    assert holder.stdout.readline() == "holding\n"
    with contextlib.suppress(BackendUnavailableError), write_lock.turn():
        pytest.fail("it is another's turn")
    waiting = program(HOLD, path)
    holder.communicate("\n")
    assert waiting.stdout.readline() == "holding\n"


def test_a_killed_holder_frees_the_turn(path, program):
    holder = program(HOLD, path)
    assert holder.stdout.readline() == "holding\n"
    holder.kill()
    holder.wait()
    write_lock = WriteLock(path, timeout=5)
    with write_lock.turn():
        pass
    write_lock.close()


def test_a_killed_one_that_waited_frees_its_place(path, program):
    holder, waiting = program(HOLD, path), None
    assert holder.stdout.readline() == "holding\n"
    waiting = program(HOLD, path)
    waiting.kill()
    waiting.wait()
    holder.communicate("\n")
    write_lock = WriteLock(path, timeout=5)
    with write_lock.turn():
        pass
    write_lock.close()


def test_of_two_processes_that_write_without_a_pause_neither_starves(path, program):
    turns = 60
    writers = [program(WRITE_ON_AND_ON, path, name, turns) for name in "ab"]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.wait(20) == 0
    log = path.read_text()
    assert log.count("a") == log.count("b") == turns
    together = log[log.index("b" if log[0] == "a" else "a") : min(log.rindex("a"), log.rindex("b"))]
    # They alternate, unless the machine leaves one without a processor for a while.
    assert max(len(list(run)) for _, run in groupby(together)) <= turns // 3


def test_a_turn_ends_with_an_error_as_well(write_lock, path):
    with pytest.raises(ZeroDivisionError), write_lock.turn():
        _ = 1 / 0
    other = WriteLock(path, timeout=1)
    with other.turn():
        pass
    other.close()


def test_closing_twice_harms_nobody(path):
    write_lock = WriteLock(path, timeout=1)
    write_lock.close()
    write_lock.close()


def test_two_threads_with_turnstiles_of_their_own_exclude_each_other(path):
    inside, most = [], []

    def write():
        write_lock = WriteLock(path, timeout=10)
        for _ in range(20):
            with write_lock.turn():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()
        write_lock.close()

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_lines_of_other_names_do_not_wait_for_each_other(path):
    writers, others = WriteLock(path, timeout=1), WriteLock(path, timeout=1, line="jobs-")
    with writers.turn(), others.turn():
        assert {found.name for found in path.parent.iterdir()} == {
            f"{path.name}-{suffix}" for suffix in ("next", "write", "jobs-next", "jobs-write")
        }
    writers.close()
    others.close()


def test_who_is_not_wanted_any_more_leaves_the_line_at_once(path):
    holder, waiting = WriteLock(path, timeout=60), WriteLock(path, timeout=float("inf"))
    looks = iter([True, True, False])
    with holder.turn(), pytest.raises(BackendUnavailableError, match="the caller does not wait for its turn any more"):
        waiting.turn(is_wanted=lambda: next(looks)).__enter__()
    with waiting.turn():
        pass
    holder.close()
    waiting.close()
