"""The init of a container: process 1 passes signals on and reaps processes, and the worker runs in a child of it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

_OF_ITS_OWN = {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGSYS,
}
"""Signals that cannot be waited for, and those that the system sends to a program for a fault of its own."""
_WAITED_FOR = signal.valid_signals() - _OF_ITS_OWN
_KILLED = 128


def leave_init_behind(*, number: int = 1) -> None:
    """
    Fork if this is process 1 of its container, and return in the child; return at once in any other process.

    Process 1 then passes all signals on to the child, and reaps each process that it inherits from a parent that has
    ended. It ends with the exit code of the child, or with 128 plus the number of the signal that killed the child. It
    has started no other process, so it never takes an exit status for which other code waits.

    number: The process id of process 1.
    """
    if os.getpid() != number:
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    worker = os.fork()
    if worker:
        os._exit(_serve(worker))
    # Ctrl-C in a terminal reaches process 1 alone, which passes it on once.
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _serve(worker: int) -> int:
    while True:
        number = signal.sigwait(_WAITED_FOR)
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(worker, number)
        elif (code := _reap(worker)) is not None:
            return code


def _reap(worker: int) -> int | None:
    """Reap all processes that have ended, and return the exit code of the worker if it is one of them, else None."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == worker:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _KILLED - code
        if pid == 0:
            return None
