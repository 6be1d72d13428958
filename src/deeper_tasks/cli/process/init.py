"""The init of a container: process 1 stays behind as one, and the worker goes on in a process of its own."""

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
"""Signals that cannot be waited for, and those that a fault of a program gives to itself."""
_WAITED_FOR = signal.valid_signals() - _OF_ITS_OWN
_KILLED = 128


def leave_init_behind(*, number: int = 1) -> None:
    """
    Return in a new process, if this is process 1 of its container; otherwise at once.

    Process 1 passes all signals on to the new one, reaps each process that comes to it because its own parent has
    ended, and ends with the exit code of the new one, or with 128 and the number of the signal that killed it. It has
    started nothing else, so it never takes an exit status for which other code waits. `number` is that of process 1.
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
    """Reap all that have ended; returns the worker's exit code if it is one of them."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == worker:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _KILLED - code
        if pid == 0:
            return None
