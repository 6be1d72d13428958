"""The scope of a process: what one process may say of another's end."""

import os
import shutil
import subprocess
import sys

import pytest

from deeper_tasks.worker.liveness.process_scope import has_certainly_ended, scope_of_this_process, start_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which process is which")

HIDDEN = "mount -t proc -o hidepid={level} proc /proc"
LOOK_AT_INIT = """
import os
from deeper_tasks.worker.liveness.process_scope import has_certainly_ended, scope_of_this_process
os.setgroups([]); os.setresgid(64001, 64001, 64001); os.setresuid(64001, 64001, 64001)
print([has_certainly_ended(1, "1"), has_certainly_ended(2**22 + 1, "1"), has_certainly_ended(os.getpid(), "1")])
"""
TELL_SCOPE = """
from deeper_tasks.worker.liveness.process_scope import scope_of_this_process
print(scope_of_this_process())
"""


def run_apart(code, *options, script=""):
    """Run Python in namespaces of its own, after a script of root's, and return what it prints."""
    command = ["unshare", *options, "sh", "-ec", f'{script}\nexec "$@"', "sh", sys.executable, "-c", code]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("it takes root and unshare")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "unshare failed" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("level", [1, 2])
def test_a_process_that_is_hidden_has_not_certainly_ended_and_one_that_is_not_there_has(level):
    said = run_apart(LOOK_AT_INIT, "--mount", "--propagation=private", script=HIDDEN.format(level=level))
    # Its own number is visible: another process had it before.
    assert said == "[False, True, True]"


def test_no_process_is_judged_by_the_proc_of_another_pid_namespace():
    assert run_apart(TELL_SCOPE, "--pid", "--fork") == ""
    assert run_apart(TELL_SCOPE, "--pid", "--fork", "--mount-proc") not in {"", scope_of_this_process()}


def test_a_living_process_has_not_ended_and_its_number_with_another_start_has():
    started = start_time(os.getpid())
    assert not has_certainly_ended(os.getpid(), started)
    assert has_certainly_ended(os.getpid(), started + "0")


@pytest.mark.parametrize("pid", [0, -1, 2**40])
def test_what_is_no_number_of_a_process_is_not_judged(pid):
    assert not has_certainly_ended(pid, "1")
