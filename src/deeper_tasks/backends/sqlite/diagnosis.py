"""The diagnosis of a database file: its place, its disk, the SQLite library, and whether the file is sound."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from shlex import quote

from deeper_tasks.backends.codes import STATES
from deeper_tasks.backends.protocol import BROKEN_OFF
from deeper_tasks.backends.sqlite.access import Access
from deeper_tasks.backends.sqlite.companion_files import companions
from deeper_tasks.backends.sqlite.database import OLDEST_SQLITE, Database, StillConnection
from deeper_tasks.backends.sqlite.driver_errors import translate
from deeper_tasks.backends.sqlite.mounts import Kind, find_mount
from deeper_tasks.backends.sqlite.obstacles import Obstacle, give_rights, may_only_read, obstacles
from deeper_tasks.domain.finding import Finding, fault, fine, warning

_MEBIBYTE = 1024 * 1024
_SCARCE, _TOO_SCARCE = 1024 * _MEBIBYTE, 64 * _MEBIBYTE
_WORTH_COMPACTING = 64 * _MEBIBYTE
_MOST_FREE = 0.25
_STEPS_BETWEEN_LOOKS = 20_000
_MOST_FAULTS = 3
_MOST_NAMED = 5

HAS_COUNTERS = "SELECT count(*) = 2 FROM sqlite_schema WHERE name IN ('deeper_counter', 'deeper_job')"
SELECT_IMPOSSIBLE = """
SELECT queue, state, count, NULL FROM deeper_counter WHERE bucket = 0 AND count NOT BETWEEN 0 AND 1000000000000
ORDER BY queue, state
"""
# One statement, so that it sees all rows at one moment.
RECOUNT = """
SELECT queue, state, sum(counted), sum(there)
FROM (
    SELECT queue, state, count AS counted, 0 AS there FROM deeper_counter WHERE bucket = 0
    UNION ALL
    SELECT queue, state, 0, count(*) FROM deeper_job WHERE state BETWEEN 1 AND 9 GROUP BY queue, state
)
GROUP BY queue, state
HAVING sum(counted) <> sum(there)
ORDER BY queue, state
"""
MEND = (
    "BEGIN IMMEDIATE; DELETE FROM deeper_counter WHERE bucket = 0; "
    "INSERT INTO deeper_counter (queue, state, bucket, count) "
    "SELECT queue, state, 0, count(*) FROM deeper_job WHERE state BETWEEN 1 AND 9 GROUP BY queue, state; COMMIT;"
)
"""The repair of the counters. It is right whatever has changed since the diagnosis."""

_RESET_BUG_MENDED: dict[tuple[int, ...], tuple[int, ...]] = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7)}
_RESET_BUG_SINCE, _RESET_BUG_GONE = (3, 7, 0), (3, 51, 3)


def examine(database: Database, *, deep: bool, is_stopped: Callable[[], bool]) -> list[Finding]:
    """Return all findings about a database, good and bad. Blocks; `is_stopped` ends the reading of the file."""
    findings = [_examine_library(sqlite3.sqlite_version_info[:3]), *_examine_place(database)]
    if database.identify() is not None and database.path.is_file():
        try:
            with closing(database.connect_to_read()) as connection:
                connection.set_progress_handler(is_stopped, _STEPS_BETWEEN_LOOKS)
                findings += [
                    _examine_journal(connection),
                    _examine_pages(connection),
                    _examine_soundness(connection, deep=deep),
                    *_examine_counters(connection, database.real, deep=deep),
                ]
        except sqlite3.Error as error:
            findings.append(
                fault(BROKEN_OFF, str(translate(error, database)), "see to the file, or restore it from a copy")
            )
    return findings


def has_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether this SQLite can damage a file when a checkpoint meets a commit of another connection."""
    mended = _RESET_BUG_MENDED.get(version[:2], _RESET_BUG_GONE)
    return _RESET_BUG_SINCE <= version < mended


def _examine_library(version: tuple[int, ...]) -> Finding:
    name = ".".join(map(str, version))
    if version < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        return fault("sqlite", f"SQLite {name} is too old", f"run a Python whose SQLite is {oldest} or later")
    if has_reset_bug(version):
        return warning(
            "sqlite",
            f"SQLite {name} has the WAL-reset bug of 3.7.0 to 3.51.2: a checkpoint that meets another connection's "
            "commit can damage the file. Processes of deeper_tasks take turns and do not meet; other programs do",
            "upgrade SQLite to 3.51.3 or later (or 3.50.7, 3.44.6); until then let no other program write to the file",
        )
    return fine("sqlite", f"SQLite {name}")


def _examine_place(database: Database) -> Iterator[Finding]:
    path = database.real
    folder = path.parent
    try:
        path.exists()
    except OSError as error:
        message = f"the database {str(path)!r} cannot be looked for: {error.strerror}"
        yield fault("file", message, "correct the store's URL, or the rights on its folders")
        return
    if not folder.is_dir():
        yield fault("folder", f"the folder {str(folder)!r} does not exist", "make it, or correct the store's URL")
        return
    yield from _examine_file(database)
    yield from _examine_names(path)
    yield from _examine_companions(path)
    yield from _examine_readers(path)
    yield _examine_disk(folder)
    yield _examine_space(folder)


def _examine_file(database: Database) -> Iterator[Finding]:
    path = database.real
    if not path.exists():
        yield fault("file", f"there is no database {str(path)!r}", "an enqueue or 'deeper migrate' makes it")
    elif not path.is_file():
        yield fault("file", f"{str(path)!r} is no file", "correct the store's URL")
    elif found := list(obstacles(path)):
        yield from _examine_obstacles(path, found)
    else:
        leads_to = "" if database.path == path else f", by the link {database.path}"
        yield fine("file", f"{path}{leads_to}, {_size(path.stat().st_size)}")


def _examine_obstacles(path: Path, found: list[Obstacle]) -> Iterator[Finding]:
    """Report each obstacle to writing as a fault; for a user who may only read, the first one as a warning."""
    if not may_only_read(path):
        yield from (fault(each.about, each.message, each.remedy) for each in found)
        return
    yield warning(
        "file",
        f"this user may look, and not enqueue or work: {found[0].message}",
        f"if it is to do more than look: {found[0].remedy}",
    )


def _examine_names(path: Path) -> Iterator[Finding]:
    """Warn of a file with several names: by each SQLite finds another log and other locks, and damages the file."""
    if not path.is_file():
        return
    if (links := path.stat().st_nlink) > 1:
        yield warning(
            "file names",
            f"{str(path)!r} has {links} names (hard links): through another name than this one SQLite does not find "
            "the write-ahead log, and damages the file",
            f"open it by one name only, and use a symbolic link for another; to find them: "
            f"find {quote(str(path.parent))} -xdev -samefile {quote(str(path))}",
        )
    mount = find_mount(path)
    if mount is not None and Path(mount.point) == path:
        yield fault(
            "file names",
            f"{str(path)!r} is mounted by itself: its write-ahead log and its locks lie outside of the mount, and "
            "processes that see the file elsewhere have others",
            "mount its folder instead",
        )


def _examine_companions(path: Path) -> Iterator[Finding]:
    """Warn of companion files that a user of the database cannot open."""
    access = Access.of(path)
    if access is None:
        return
    differences, differing = [], []
    for beside in companions(path):
        found, wanted = Access.of(beside), access.for_folder() if beside.is_dir() else access
        if found is not None and not found.lets_in_like(wanted):
            differences.append(
                f"{beside.name} to user {found.user}, group {found.group} with the mode {found.mode:04o}"
            )
            differing.append(beside)
    if differing:
        yield warning(
            "file access",
            f"the database belongs to user {access.user}, group {access.group} with the mode {access.mode:04o}, and "
            f"what lies beside it keeps users out: {'; '.join(differences)}",
            give_rights(path, differing),
        )


def _examine_readers(path: Path) -> Iterator[Finding]:
    """Warn where the mode lets every user of this machine read the jobs: their arguments and errors may be secret."""
    files = (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))
    modes = {file: file.stat().st_mode for file in files if file.is_file()}
    readable = [
        f"{file.name} ({stat.S_IMODE(mode):04o})"
        for file, mode in modes.items()
        if mode & (stat.S_IROTH | stat.S_IWOTH)
    ]
    if readable:
        yield warning(
            "file access",
            f"every user of this machine may read {', '.join(readable)}, with the arguments and errors of jobs",
            f"chmod o-rwx {' '.join(quote(str(file)) for file in modes)}",
        )


def _examine_disk(folder: Path) -> Finding:
    mount = find_mount(folder)
    if mount is None:
        return fine("disk", "this system does not tell which disk it is; it must be a local one")
    place = f"{folder} is on {mount.point}, a file system of type {mount.type}"
    remedy = "move the file to a local disk, or use a store that is a server"
    match mount.kind:
        case Kind.NETWORK:
            return fault("disk", f"{place}: over a network SQLite's locks and shared memory do not hold", remedy)
        case Kind.DOUBTFUL:
            return warning("disk", f"{place}: it may be a remote one, where SQLite's locks do not hold", remedy)
        case Kind.LOCAL:
            return fine("disk", f"local, {mount.type}")


def _examine_space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    space = f"{_size(free)} free on the disk"
    # Not --compact: it needs as much free space as the jobs that stay take.
    remedy = "free some, or delete old jobs, whose space comes back bit by bit: deeper cleanup --completed-days 1"
    if free < _TOO_SCARCE:
        return fault("space", f"only {space}: soon nothing can be written", remedy)
    return warning("space", f"only {space}", remedy) if free < _SCARCE else fine("space", space)


def _examine_journal(connection: sqlite3.Connection) -> Finding:
    if isinstance(connection, StillConnection):
        return fine("journal", "none is looked at: this user may only read the file, and no process has it open")
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode == "wal":
        return fine("journal", "write-ahead log")
    return warning(
        "journal",
        f"the journal mode is {mode!r}, with which readers and writers wait for each other",
        "let no other program change it; the next worker or enqueue sets it to WAL again",
    )


def _examine_pages(connection: sqlite3.Connection) -> Finding:
    size, pages, unused = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    share = f"{_size(unused * size)} of {_size(pages * size)} are unused"
    if unused * size > _WORTH_COMPACTING and unused > _MOST_FREE * pages:
        return warning(
            "unused space", share, "new jobs will use it; to give it back to the disk: deeper cleanup --compact"
        )
    return fine("unused space", share)


def _examine_soundness(connection: sqlite3.Connection, *, deep: bool) -> Finding:
    pragma = "integrity_check" if deep else "quick_check"
    answers = [row[0] for row in connection.execute(f"PRAGMA {pragma}({_MOST_FAULTS})")]
    if answers == ["ok"]:
        return fine("soundness", f"{pragma} found nothing wrong")
    return fault(
        "soundness",
        f"the file is damaged: {'; '.join(answers)}",
        "stop the workers, keep a copy of the file, and restore it from a backup, or save what can be read: "
        "sqlite3 tasks.db .recover | sqlite3 new.db",
    )


def _examine_counters(connection: sqlite3.Connection, path: Path, *, deep: bool) -> Iterator[Finding]:
    if not connection.execute(HAS_COUNTERS).fetchone()[0]:
        return  # opening the store says what is missing
    wrong = connection.execute(RECOUNT if deep else SELECT_IMPOSSIBLE).fetchall()
    if not wrong:
        yield fine("counters", "they equal a recount of all jobs" if deep else "none that is impossible")
        return
    wrong_counts = [
        f"{counted:,} {STATES.get(state, f'of the unknown state {state}')} in {queue!r}"
        + (f" and there are {there:,}" if deep else "")
        for queue, state, counted, there in wrong
    ]
    more = f" and {len(wrong_counts) - _MOST_NAMED} more" if len(wrong_counts) > _MOST_NAMED else ""
    yield fault(
        "counters",
        f"they count {'; '.join(wrong_counts[:_MOST_NAMED])}{more}: the tables were changed by hand",
        f"sqlite3 {quote(str(path))} {quote(MEND)}",
    )


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004 - units of bytes
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
