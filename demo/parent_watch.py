"""
The parent watch: starts a program that ends when the demo does, in whatever way the demo ends.

`python -m demo.parent_watch <pid of the demo> <arguments for Python>`. Only Linux can
do this; elsewhere the program is simply started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for a SIGKILL at the parent's end, and become the program."""
    parent, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit("the demo has ended before its worker began")
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main()
