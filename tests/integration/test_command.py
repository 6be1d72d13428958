"""The program `deeper`: it is interrupted without a traceback from its first moment on."""

import subprocess
import sys

import pytest

# The import is what takes its time: here it sends itself a signal.
PROGRAM = """
import os, signal, sys
import deeper_tasks_command

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "deeper_tasks.cli":
            os.kill(os.getpid(), signal.NUMBER)

sys.meta_path.insert(0, Interrupting())
deeper_tasks_command.main()
"""


def run_interrupted(number, *words):
    program = PROGRAM.replace("NUMBER", number)
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)


def test_ctrl_c_while_the_program_is_imported_is_one_line_and_exit_code_130():
    ended = run_interrupted("SIGINT")
    assert (ended.returncode, ended.stderr) == (130, "\ndeeper: interrupted\n")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        pytest.param(["worker", "nowhere:manager"], 0, "worker stopped before its start", id="a worker"),
        pytest.param(["worker", "nowhere:manager", "--processes", "1"], 2, "'nowhere'", id="a supervisor"),
        pytest.param(["completion", "bash"], -1, "", id="another command"),
    ],
)
def test_sighup_while_the_program_is_imported_waits_for_the_command_and_does_there_what_it_always_does(
    words, code, told
):
    ended = run_interrupted("SIGHUP", *words)
    assert ended.returncode == code, ended.stderr
    assert told in ended.stderr


def test_it_is_the_command():
    program = "import deeper_tasks_command, sys; sys.argv[1:] = ['--version']; deeper_tasks_command.main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert "deeper" in ended.stdout
