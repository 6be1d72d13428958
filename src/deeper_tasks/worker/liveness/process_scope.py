"""The scope of a process: which processes it can judge, and whether one of them has certainly ended."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SELF = Path("/proc/self")
_NAMESPACES = ("pid", "user", "time")
"""The namespaces that decide which process a number means, which processes are visible, and when they started."""
_START_TIME_FIELD = 22
_ENDED = frozenset("ZXx")


def scope_of_this_process() -> str:
    """
    Return a text that all processes share that can judge one another; empty if this process can judge none.

    It names the boot of the machine, the namespaces and the user. The processes of another user can be
    invisible (`hidepid`), and the processes that a worker of that user has started always are.
    """
    with suppress(OSError, ValueError):
        if _is_proc_trusted():
            user = f"uid:{os.geteuid()}"
            return " ".join([_BOOT_ID.read_text().strip(), *filter(None, map(_namespace, _NAMESPACES)), user])
    return ""


def start_time(pid: int) -> str:
    """
    Return when a process started, in the kernel's ticks; empty if it has ended and its parent has not waited for it.

    Raises:
        OSError: there is no such process, or this one may not look at it.
    """
    # The second field, the program's name, is in brackets and may hold spaces and brackets itself.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    state, start = fields[0], fields[_START_TIME_FIELD - 3]
    return "" if state in _ENDED else start


def has_certainly_ended(pid: int, started: str) -> bool:
    """
    Whether a process of this process's scope has ended: its number is free, or another process has it.

    A zombie has ended, because it runs nothing any more. A process that cannot be read counts as running.
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
        # The number is in use, perhaps now by a process of another user, which this one may not signal.
        pass
    try:
        return start_time(pid) != started
    except OSError:
        return False


def _is_proc_trusted() -> bool:
    """
    Whether /proc shows the processes under the numbers by which this process knows them, and may be read.

    A /proc of an outer pid namespace knows this process by more than one number. The
    processes of a program that may not be read belong to root there.
    """
    for line in (_SELF / "status").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name == "NSpid" and numbers.split() != [str(os.getpid())]:
            return False
    return _SELF.readlink() == Path(str(os.getpid())) and _SELF.stat().st_uid == os.geteuid()


def _namespace(kind: str) -> str:
    """Return the identity of a namespace of this process; empty if the kernel has none of that kind."""
    try:
        return str((_SELF / "ns" / kind).readlink())
    except FileNotFoundError:
        return ""
