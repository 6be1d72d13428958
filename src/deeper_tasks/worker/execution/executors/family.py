"""The family of a process: what it has started, and the memory they use together, as /proc tells it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_NOT_TOLD = (FileNotFoundError, ProcessLookupError, PermissionError)
"""A process, or one thread of it, may end while it is looked at; and not all are ours to look at."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


def children_of(pid: int) -> set[int]:
    """Return the processes whose parent this one is now, ended ones that nobody waited for too."""
    children: set[int] = set()
    threads = f"/proc/{pid}/task"
    with suppress(*_NOT_TOLD):
        for thread in os.listdir(threads):  # noqa: PTH208 - asked after every job, and pathlib takes ten times as long
            with suppress(*_NOT_TOLD), open(f"{threads}/{thread}/children", "rb") as file:  # noqa: PTH123 - the same
                children.update(map(int, file.read().split()))
    return children


def has_ended(pid: int) -> bool:
    """Whether a process runs no more, though its parent may not have waited for it."""
    try:
        status = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return True
    # The program's name, in brackets, may hold spaces and brackets itself.
    return status.rpartition(")")[2].split()[0] in {"Z", "X"}


def memory_above(pid: int, limit: int) -> int | None:
    """
    Return how many bytes of memory a process and all it started use, if that is more than `limit`.

    Each counts with what it has for itself and its share of what it shares with others. As this is costly to ask
    of the kernel, what is resident is asked first: together they cannot use more.
    """
    family = [*_family(pid)]
    if sum(map(_resident, family)) <= limit:
        return None
    used = sum(map(_share, family))
    return used if used > limit else None


def is_told() -> bool:
    """Whether this system has a /proc that tells the memory of a process."""
    return (_PROC / "self" / "statm").exists()


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in children_of(pid):
        yield from _family(child)


def _resident(pid: int) -> int:
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def _share(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except OSError:
        # Not ours to look into, as a program with other rights.
        return _resident(pid)
