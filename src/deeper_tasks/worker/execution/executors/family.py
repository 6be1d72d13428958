"""The family of a process: the processes that it has started, and the memory that they use together, by /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_UNREADABLE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""A process, or a thread of it, may end during the look, and other users' processes may not be read."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


def children_of(pid: int) -> set[int]:
    """Return the current children of a process, with the ended ones that it has not waited for."""
    children: set[int] = set()
    threads = f"/proc/{pid}/task"
    with suppress(*_UNREADABLE):
        for thread in os.listdir(threads):  # noqa: PTH208 - asked after every job, and pathlib takes ten times as long
            with suppress(*_UNREADABLE), open(f"{threads}/{thread}/children", "rb") as file:  # noqa: PTH123 - the same
                children.update(map(int, file.read().split()))
    return children


def has_ended(pid: int) -> bool:
    """Whether a process has ended, although its parent may not have waited for it."""
    try:
        status = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return True
    # The program's name, in brackets, may hold spaces and brackets itself.
    return status.rpartition(")")[2].split()[0] in {"Z", "X"}


def memory_above(pid: int, limit: int) -> int | None:
    """
    Return how many bytes of memory a process and all it started use, if that is more than `limit`.

    Each counts with its own memory and its share of shared memory. As this is costly to read from the
    kernel, the resident memory is read first, which is never less.
    """
    family = [*_family(pid)]
    if sum(map(_resident, family)) <= limit:
        return None
    used = sum(map(_share, family))
    return used if used > limit else None


def is_memory_known() -> bool:
    """Whether this system has a /proc that shows the memory of a process."""
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
        # The process may not be read, as a program with other rights.
        return _resident(pid)
