"""Obstacles: the rights and mounts that keep this user from reading or writing a database, and the way out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote

from msgspec import Struct

from deeper_tasks.backends.sqlite.access import Access
from deeper_tasks.backends.sqlite.companion_files import companions
from deeper_tasks.config.working_folder import may


class Obstacle(Struct, frozen=True, kw_only=True):
    """A reason for which this user cannot read or write a database, and the way out."""

    about: str
    """`file` or `folder`."""
    prevents: str
    """`read` or `written`: what the database cannot be."""
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"

    def of(self, database: Path) -> str:
        """Return the message of an error that names the database and the obstacle."""
        begin = (
            "" if repr(str(database)) in self.message else f"the database {str(database)!r} cannot be {self.prevents}: "
        )
        return f"{begin}{self}"


def can_write(database: Path) -> bool:
    """Whether this user may write to the file and, as SQLite has to, to its folder."""
    return may(database, os.R_OK | os.W_OK) and may(database.parent, os.W_OK | os.X_OK)


def may_only_read(database: Path) -> bool:
    """Whether this user may read the file and cannot write to it, nor give itself the right."""
    access = Access.of(database)
    is_another = access is not None and access.user != os.geteuid()
    return may(database, os.R_OK) and (_is_read_only(database) or (is_another and not may(database, os.W_OK)))


def obstacle(database: Path) -> Obstacle | None:
    """Return the first obstacle, if there is one."""
    return next(obstacles(database), None)


def obstacles(database: Path) -> Iterator[Obstacle]:
    """Yield the obstacles to writing to a database: of the file, of its companion files, of the folder."""
    folder = database.parent
    if _is_read_only(database):
        message = f"the database {str(database)!r} is on a file system that is mounted read-only"
        yield Obstacle(about="file", prevents="written", message=message, remedy="mount it for writing")
        return
    closed = [path for path in (database, *companions(database)) if _is_there(path) and not _may_use(path)]
    if closed:
        # The remedy for the database is the remedy for its companion files too.
        named = closed[:1] if closed[0] == database else closed
        prevents = "written" if all(may(path, os.R_OK) for path in named) else "read"
        message = f"{', '.join(map(_described, named))} cannot be {prevents} by {_this_user()}"
        is_database = named[0] == database
        yield Obstacle(
            about="file",
            prevents=prevents,
            message=f"the database {message}" if is_database else message,
            remedy=_remedy(database) if is_database else f"give the database's rights: {give_rights(database, named)}",
        )
    if folder.is_dir() and not may(folder, os.W_OK | os.X_OK):
        message = (
            f"the folder {_described(folder)} is not writable for {_this_user()}, and SQLite keeps files beside the"
        )
        yield Obstacle(about="folder", prevents="written", message=f"{message} database", remedy=_remedy(folder))


def give_rights(database: Path, beside: Sequence[Path]) -> str:
    """Return the command that gives the owner, the group and the mode of a database to companion files."""
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
    """Return an addition to a way out: the folder above the database that this user may not enter, or no text."""
    closed = next((each for each in reversed(database.parents) if not may(each, os.X_OK)), None)
    return "" if closed is None else f", or let {_this_user()} enter the folder {_described(closed)}"


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
    """Return the commands that let this user into a folder, or into a database and its companion files."""
    is_folder, access = path.is_dir(), Access.of(path)
    beside = [] if is_folder else [each for each in companions(path) if _is_there(each)]
    names = quote(str(path)) + (f" {quote(str(path))}-*" if beside else "")
    # Recursive: the folder of hints holds sockets.
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
    """Return the commands that give later files of SQLite the group, not that of the user who makes them."""
    if all(_group(each) == group for each in beside) or folder.stat().st_mode & stat.S_ISGID:
        return []
    return [f"chgrp {group} {quote(str(folder))}", f"chmod g+s {quote(str(folder))}"]


def _group(path: Path) -> int | None:
    access = Access.of(path)
    return None if access is None else access.group


def _quoted(paths: Iterable[Path]) -> str:
    return " ".join(quote(str(path)) for path in paths)
