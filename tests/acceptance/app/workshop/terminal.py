"""A terminal: runs the command `deeper` as if typed there, is closed by a word on stdin, and ends with the command."""

from __future__ import annotations

import os
import subprocess
import sys

_TYPED = """
import fcntl, os, sys, termios
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "deeper_tasks.cli", *sys.argv[2:]])
"""


def main() -> int:
    """Return the command's exit code."""
    screen, keyboard = os.openpty()
    command = [sys.executable, "-c", _TYPED, str(keyboard), *sys.argv[1:]]
    process = subprocess.Popen(command, pass_fds=[keyboard], start_new_session=True)
    os.close(keyboard)
    sys.stdin.readline()
    os.close(screen)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
