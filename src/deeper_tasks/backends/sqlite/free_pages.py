"""Free pages: the pages that deleted jobs leave, given back to the file system in small steps or all at once."""

from __future__ import annotations

import sqlite3

STEP = 256
"""The most pages that one step gives back: it holds up other writers about as long as a batch of jobs does."""
_LEAST_SLACK = 256
_SLACK = 4
"""The used pages for each free page that stays: a steady queue would otherwise shrink and grow the file all day."""
_INCREMENTAL = 2

# As a script, which runs in one step: page by page Python would release the interpreter's lock each time.
_GIVE_BACK = f"PRAGMA incremental_vacuum({STEP})"


def give_back(connection: sqlite3.Connection) -> bool:
    """
    Give back a step of the surplus, outside of a transaction; returns whether there was any.

    A file that was made without incremental vacuum keeps its pages; `compact` changes that.
    """
    if _pragma(connection, "auto_vacuum") != _INCREMENTAL or _surplus(connection) < STEP:
        return False
    connection.executescript(_GIVE_BACK)
    return True


def compact(connection: sqlite3.Connection) -> int:
    """
    Rebuild the file without free pages, outside of a transaction; returns the number of bytes it has shrunk by.

    The file can give back pages in steps from then on, however it was made.
    """
    before = _bytes(connection)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("VACUUM")
    shorten(connection)
    return max(0, before - _bytes(connection))


def shorten(connection: sqlite3.Connection) -> bool:
    """
    Move the log's content into the file and truncate both; outside of a transaction.

    Returns:
        Whether that was possible: not while another connection reads from the log. It does not wait for that.
    """
    timeout = _pragma(connection, "busy_timeout")
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        connection.execute(f"PRAGMA busy_timeout = {timeout}")
    return not is_busy


def _surplus(connection: sqlite3.Connection) -> int:
    free = _pragma(connection, "freelist_count")
    used = _pragma(connection, "page_count") - free
    return free - max(_LEAST_SLACK, used // _SLACK)


def _bytes(connection: sqlite3.Connection) -> int:
    return _pragma(connection, "page_count") * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
