"""The scope of a process: the processes that it can judge, and whether one of them has certainly ended."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SELF = Path("/proc/self")
_NAMESPACES = ("pid", "user", "time")
"""Those that change which process a number means, which processes are visible, and when they started."""
_START_TIME_FIELD = 22
_ENDED = frozenset("ZXx")


def scope_of_this_process() -> str:
    """
    Return what all processes have in common that can judge one another; empty where this one can judge none.

    It is the run of the machine, the namespaces and the user. The processes of another user can be
    invisible (`hidepid`), and what a worker of that user has started always is.
    """
    with suppress(OSError, ValueError):
        if _is_proc_trusted():
            user = f"uid:{os.geteuid()}"
            return " ".join([_BOOT_ID.read_text().strip(), *filter(None, map(_namespace, _NAMESPACES)), user])
    return ""


def start_time(pid: int) -> str:
    """
    Return when a process started, in the kernel's ticks; empty if it has ended, though not waited for.

    Raises:
        OSError: there is no such process, or this one may not look at it.
    """
    # The second field, the program's name, is in brackets and may hold spaces and brackets itself.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    state, start = fields[0], fields[_START_TIME_FIELD - 3]
    return "" if state in _ENDED else start


def has_certainly_ended(pid: int, started: str) -> bool:
    """
    Whether a process, if it is of this process's scope, has ended: its number is free, or another process has it.

    A zombie has ended: it runs nothing any more. A process that cannot be looked at has not.
    """
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OverflowError:
        return False
    except OSError:
        # It is there, and not ours to signal: another user's process may have the number now.
        pass
    try:
        return start_time(pid) != started
    except OSError:
        return False


def _is_proc_trusted() -> bool:
    """
    Whether /proc shows the processes under the numbers by which this one knows them, and lets it look.

    It may be of an outer pid namespace: then it knows this process by more than one number. The
    processes of a program that may not be looked at belong to root there.
    """
    for line in (_SELF / "status").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name == "NSpid" and numbers.split() != [str(os.getpid())]:
            return False
    return _SELF.readlink() == Path(str(os.getpid())) and _SELF.stat().st_uid == os.geteuid()


def _namespace(kind: str) -> str:
    """Return the identity of a namespace of this process; empty where the kernel has none of that kind."""
    try:
        return str((_SELF / "ns" / kind).readlink())
    except FileNotFoundError:
        return ""
