"""Companion files: the locks, sockets and logs beside a database, which take its owner and its mode."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from deeper_tasks import native
from deeper_tasks.backends.sqlite.access import Access

_LOCKS = ("-next", "-write", "-jobs-next", "-jobs-write")
HINTS = "-wake"
_OF_SQLITE = ("-wal", "-shm", "-journal")
_NEW = 0o666


def open_beside(database: Path, suffix: str) -> int:
    """
    Open a lock file beside a database, and make it if there is none. Returns a descriptor.

    Raises:
        OSError: it cannot be made, or not even be read.
    """
    path = database.with_name(f"{database.name}{suffix}")
    access = Access.of(database)
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        make(path, mode=_NEW, access=access)
        descriptor = _open(path)
    status = os.fstat(descriptor)
    if access is not None and stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        # A command of root may have made it for root. A file with a second name may be the lock of no database.
        access.give_to(descriptor)
    return descriptor


def give_beside(database: Path, path: Path) -> None:
    """Give the owner and the mode of a database to a socket, or to an empty folder: a full one may be another's."""
    access = Access.of(database)
    if access is None or not hasattr(os, "O_PATH"):
        return
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        # The file that was opened, whatever other users have put in its place since.
        held = Path(f"/proc/self/fd/{descriptor}")
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            access.give_to(held)
        elif stat.S_ISDIR(mode) and not any(held.iterdir()):
            access.for_folder().give_to(held)
    except OSError:
        return
    finally:
        native.close(descriptor)


def make(path: Path, *, mode: int, access: Access | None = None) -> None:
    """
    Make an empty file, unless there is one; no other process ever sees it without its owner and its mode.

    It is made under another name and then linked: a process that closes a second handle on the file drops SQLite's
    locks, and here the handle is closed before the file has its name.
    """
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        _make(draft, mode, access)
        try:
            os.link(draft, path, follow_symlinks=False)
        finally:
            draft.unlink()
    except FileExistsError:
        return
    except OSError:
        # The file system has no links, or the name is as long as it may be.
        with suppress(FileExistsError):
            _make(path, mode, access)


def companions(database: Path) -> list[Path]:
    """Return the paths of all companion files that a database may have."""
    return [database.with_name(database.name + suffix) for suffix in (*_OF_SQLITE, *_LOCKS, HINTS)]


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError:
        # A lock needs no more than that.
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _make(path: Path, mode: int, access: Access | None) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        if access is not None:
            access.give_to(descriptor)
    finally:
        native.close(descriptor)
