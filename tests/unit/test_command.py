"""The program `deeper`: it is interrupted without a traceback from its first moment on."""

import subprocess
import sys

# The import is what takes its time: here it interrupts itself.
PROGRAM = """
import os, signal, sys
import deeper_tasks_command

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "deeper_tasks.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
deeper_tasks_command.main()
"""


def test_ctrl_c_while_the_program_is_imported_is_one_line_and_exit_code_130():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "\ndeeper: interrupted\n")


def test_it_is_the_command():
    program = "import deeper_tasks_command, sys; sys.argv[1:] = ['--version']; deeper_tasks_command.main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert "deeper" in ended.stdout
