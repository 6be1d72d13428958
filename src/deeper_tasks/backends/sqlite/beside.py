"""What lies beside a database: files that take its owner and its mode, and what keeps a user out of them."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shlex import quote

from msgspec import Struct

from deeper_tasks.config.working_folder import may

_LOCKS = ("-next", "-write", "-jobs-next", "-jobs-write")
HINTS = "-wake"
_OF_SQLITE = ("-wal", "-shm", "-journal")
_NEW = 0o666
_BY_GROUP = 0o060


class Access(Struct, frozen=True, kw_only=True):
    """The owner, the group and the mode of a file; with None for the mode it stays as the umask says."""

    user: int
    group: int
    mode: int | None

    @classmethod
    def of(cls, path: Path | int) -> Access | None:
        """Return what a path or a descriptor has; None: it is not there, or cannot be looked at."""
        try:
            status = os.stat(path)  # noqa: PTH116 - it may be a descriptor
        except OSError:
            return None
        return cls(user=status.st_uid, group=status.st_gid, mode=stat.S_IMODE(status.st_mode) & 0o777)

    def for_folder(self) -> Access:
        """Return the same for a folder: a user who may read may enter."""
        mode = None if self.mode is None else self.mode | (self.mode & 0o444) >> 2
        return Access(user=self.user, group=self.group, mode=mode)

    def lets_in_like(self, other: Access) -> bool:
        """Whether this one lets in all that the other lets in. An owner who differs is let in by the group."""
        mode = other.mode or 0
        if mode & ~(self.mode or 0) or (mode & _BY_GROUP and self.group != other.group):
            return False
        return self.user == other.user or mode & _BY_GROUP == _BY_GROUP

    def give_to(self, target: Path | int) -> None:
        """
        Give it to a descriptor, or to the path of one, as far as this user may.

        Root may give a file away; its owner may give it to a group of theirs and set its mode. Never to a path
        that other users can replace meanwhile, by a link to a file of this user's.
        """
        found = Access.of(target)
        if found is None or found == self:
            return
        if (found.user, found.group) != (self.user, self.group):
            for user in (self.user, -1):
                with suppress(OSError):
                    os.chown(target, user, self.group)
                    break
        if self.mode is not None:
            with suppress(OSError):
                os.chmod(target, self.mode)  # noqa: PTH101 - the same


class Obstacle(Struct, frozen=True, kw_only=True):
    """What keeps this user from a database, so that it cannot be `read` or `written`, and the way out."""

    about: str
    """`file` or `folder`."""
    prevents: str
    told: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.told}; {self.remedy}"

    def of(self, database: Path) -> str:
        """Return an error about a database that names it, and what stands in the way."""
        begin = (
            "" if repr(str(database)) in self.told else f"the database {str(database)!r} cannot be {self.prevents}: "
        )
        return f"{begin}{self}"


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
        # It may be from a command of root that did not look at the database's owner. A further name is another file's.
        access.give_to(descriptor)
    return descriptor


def give_beside(database: Path, path: Path) -> None:
    """Give the owner and the mode of a database to a socket, or to an empty folder: one with content may be another."""
    access = Access.of(database)
    if access is None or not hasattr(os, "O_PATH"):
        return
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        # The one that was opened, whatever other users have put in its place since.
        held = Path(f"/proc/self/fd/{descriptor}")
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            access.give_to(held)
        elif stat.S_ISDIR(mode) and not any(held.iterdir()):
            access.for_folder().give_to(held)
    except OSError:
        return
    finally:
        os.close(descriptor)


def make(path: Path, *, mode: int, access: Access | None = None) -> None:
    """
    Make an empty file, unless there is one; no other process ever sees it without its owner and its mode.

    It is made under another name and then linked: SQLite's locks are dropped by a process that closes a second handle
    on the file, and this handle is closed before the file has its name.
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
        # A file system without links, or a name that is as long as it may be.
        with suppress(FileExistsError):
            _make(path, mode, access)


def can_write(database: Path) -> bool:
    """Whether this user may write to the file and, as SQLite has to, to its folder."""
    return may(database, os.R_OK | os.W_OK) and may(database.parent, os.W_OK | os.X_OK)


def may_only_look(database: Path) -> bool:
    """Whether this user may read the file and is not meant to write to it, nor could give itself the right."""
    access = Access.of(database)
    is_another = access is not None and access.user != os.geteuid()
    return may(database, os.R_OK) and (_is_read_only(database) or (is_another and not may(database, os.W_OK)))


def obstacle(database: Path) -> Obstacle | None:
    """Return the first of the obstacles, if there are any."""
    return next(obstacles(database), None)


def obstacles(database: Path) -> Iterator[Obstacle]:
    """Yield what keeps this user from writing to a database: the file, those beside it, the folder."""
    folder = database.parent
    if _is_read_only(database):
        told = f"the database {str(database)!r} is on a file system that is mounted read-only"
        yield Obstacle(about="file", prevents="written", told=told, remedy="mount it for writing")
        return
    for path in filter(_is_there, (database, *companions(database))):
        needed = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
        if not may(path, needed):
            prevents = "written" if may(path, os.R_OK) else "read"
            name = f"the database {_described(path)}" if path == database else _described(path)
            told = f"{name} cannot be {prevents} by {_this_user()}"
            yield Obstacle(about="file", prevents=prevents, told=told, remedy=_remedy(path, database))
    if folder.is_dir() and not may(folder, os.W_OK | os.X_OK):
        told = f"the folder {_described(folder)} is not writable for {_this_user()}, and SQLite keeps files beside the"
        yield Obstacle(about="folder", prevents="written", told=f"{told} database", remedy=_remedy(folder, folder))


def or_open_folders(database: Path) -> str:
    """Return, to follow another way out, the folder above a database that this user may not enter."""
    closed = next((each for each in reversed(database.parents) if not may(each, os.X_OK)), None)
    return "" if closed is None else f", or let {_this_user()} enter the folder {_described(closed)}"


def companions(database: Path) -> list[Path]:
    """Return the paths of all that may lie beside a database."""
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
        os.close(descriptor)


def _is_there(path: Path) -> bool:
    with suppress(OSError):  # its name may be too long for the file system
        path.stat()
        return True
    return False


def _is_read_only(path: Path) -> bool:
    with suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False


def _this_user() -> str:
    return f"user {os.geteuid()}"


def _described(path: Path) -> str:
    access = Access.of(path)
    return repr(str(path)) + (
        "" if access is None else f" (owner {access.user}, group {access.group}, mode {access.mode:04o})"
    )


def _remedy(path: Path, database: Path) -> str:
    """Return the way out: what lies beside the database gets its owner and mode; the rest is given to this user."""
    access, wanted = Access.of(path), Access.of(database)
    name = quote(str(path))
    if wanted is not None and path != database:
        mode = (wanted.for_folder() if path.is_dir() else wanted).mode
        given = f"give it those of the database: chown {wanted.user}:{wanted.group} {name} && chmod {mode:04o} {name}"
        folder = database.parent
        if access is None or access.group == wanted.group or folder.stat().st_mode & stat.S_ISGID:
            return given
        # SQLite's own files have the group of the user who makes them.
        return (
            f"{given}; for those to come: chgrp {wanted.group} {quote(str(folder))} && chmod g+s {quote(str(folder))}"
        )
    if access is not None and access.group in {os.getegid(), *os.getgroups()}:
        return f"run as its owner, or let its group in: chmod g+rw{'x' if path.is_dir() else ''} {name}"
    return f"run as its owner, or give this user {'the folder' if path.is_dir() else 'it'}: chown {os.geteuid()} {name}"
