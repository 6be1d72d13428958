"""The databases of a run: one for each measurement, in one server, dropped after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.figures import Figure, Sample
from benchmarks.site import Phase
from servers.server import Server

_PATIENCE = 30.0
_LOOK = 0.02

_COUNTED_WAL = {Phase.INSERT: Figure.WAL_INSERT, Phase.DRAIN: Figure.WAL_DRAIN}
_WRITTEN = "SELECT pg_current_wal_insert_lsn() - '0/0', wal_fpi FROM pg_stat_wal"
_DEAD = """
SELECT coalesce(sum(n_tup_upd + n_tup_del), 0), coalesce(sum(n_tup_upd - n_tup_hot_upd + n_tup_del), 0)
FROM pg_stat_user_tables
"""
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class DatabaseSite:
    """Makes its stores in a server, whose user may create databases and ask for a checkpoint."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @contextmanager
    def store(self, name: str) -> Iterator[str]:  # noqa: ARG002 - databases number themselves
        """Give the URL of a new database, for the time of the block."""
        with self._server.new_database() as url:
            yield url

    @contextmanager
    def wear(self, url: str, phase: Phase, *, jobs: int) -> Iterator[Sample]:
        """
        Give a sample that holds, after the block, the WAL and the dead tuples of so many jobs.

        A checkpoint comes before an insert and none after it, so that no page of the new tables is written to the WAL
        as a whole: that is what a checkpoint makes of the first change to each page after it. Whether any was is
        counted. Tuples are counted from the making of the database on.
        """
        sample: Sample = {}
        with psycopg.connect(url, autocommit=True) as connection:
            if phase is Phase.INSERT:
                connection.execute("CHECKPOINT")
            written, images = _row(connection, _WRITTEN)
            yield sample
            _wait_until_alone(connection)
            written_after, images_after = _row(connection, _WRITTEN)
            sample[_COUNTED_WAL[phase]] = float(written_after - written) / jobs
            if phase is Phase.DRAIN:
                dead, dead_in_indexes = _row(connection, _DEAD)
                sample |= {
                    Figure.PAGE_IMAGES: float(images_after - images),
                    Figure.DEAD: float(dead) / jobs,
                    Figure.DEAD_IN_INDEXES: float(dead_in_indexes) / jobs,
                }


def _row(connection: psycopg.Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


def _wait_until_alone(connection: psycopg.Connection) -> None:
    """Wait until the server processes of the others have ended: only then their statistics are complete."""
    deadline = time.monotonic() + _PATIENCE
    while _row(connection, _OTHERS)[0]:
        if time.monotonic() > deadline:
            raise TimeoutError("a client is still connected to a database that has been measured")
        time.sleep(_LOOK)
