"""Companion files: files beside a database, which take its owner and its mode, and what keeps a user out of them."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote

from msgspec import Struct

from deeper_tasks import native
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
        native.close(descriptor)


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
    closed = [path for path in (database, *companions(database)) if _is_there(path) and not _may_use(path)]
    if closed:
        # The remedy for the database mends those beside it too.
        named = closed[:1] if closed[0] == database else closed
        prevents = "written" if all(may(path, os.R_OK) for path in named) else "read"
        told = f"{', '.join(map(_described, named))} cannot be {prevents} by {_this_user()}"
        is_database = named[0] == database
        yield Obstacle(
            about="file",
            prevents=prevents,
            told=f"the database {told}" if is_database else told,
            remedy=_remedy(database) if is_database else f"give the database's rights: {give_rights(database, named)}",
        )
    if folder.is_dir() and not may(folder, os.W_OK | os.X_OK):
        told = f"the folder {_described(folder)} is not writable for {_this_user()}, and SQLite keeps files beside the"
        yield Obstacle(about="folder", prevents="written", told=f"{told} database", remedy=_remedy(folder))


def give_rights(database: Path, beside: Sequence[Path]) -> str:
    """Return the command that gives the owner, the group and the mode of a database to what lies beside it."""
    access, folder = Access.of(database), database.parent
    if access is None:
        return f"chown --reference={quote(str(database))} {_quoted(beside)}"
    commands = [f"chown {access.user}:{access.group} {_quoted(beside)}"]
    for mode, paths in (
        (access.mode, [path for path in beside if not path.is_dir()]),
        (access.for_folder().mode, [path for path in beside if path.is_dir()]),
    ):
        commands += [f"chmod {mode:04o} {_quoted(paths)}"] if paths else []
    return " && ".join(commands + _hand_group_down(folder, access.group, beside))


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
        native.close(descriptor)


def _may_use(path: Path) -> bool:
    return may(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))


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


def _remedy(path: Path) -> str:
    """Return the way to a folder, or to a database and all that lies beside it."""
    is_folder, access = path.is_dir(), Access.of(path)
    beside = [] if is_folder else [each for each in companions(path) if _is_there(each)]
    names = quote(str(path)) + (f" {quote(str(path))}-*" if beside else "")
    # The sockets in the folder of hints, too.
    deep = "-R " if beside else ""
    if access is not None and access.group in {os.getegid(), *os.getgroups()}:
        regroup = _hand_group_down(path.parent, access.group, beside)
        if any(_group(each) != access.group for each in beside):
            regroup.insert(0, f"chgrp {deep}{access.group} {names}")
        right = "rwx" if is_folder else "rwX" if beside else "rw"
        return f"run as its owner, or let its group in: {' && '.join([f'chmod {deep}g+{right} {names}', *regroup])}"
    return (
        f"run as its owner, or give this user {'the folder' if is_folder else 'it'}: chown {deep}{os.geteuid()} {names}"
    )


def _hand_group_down(folder: Path, group: int, beside: Sequence[Path]) -> list[str]:
    """Return the commands by which SQLite's files to come have the group too, not that of the user who makes them."""
    if all(_group(each) == group for each in beside) or folder.stat().st_mode & stat.S_ISGID:
        return []
    return [f"chgrp {group} {quote(str(folder))}", f"chmod g+s {quote(str(folder))}"]


def _group(path: Path) -> int | None:
    access = Access.of(path)
    return None if access is None else access.group


def _quoted(paths: Iterable[Path]) -> str:
    return " ".join(quote(str(path)) for path in paths)
