"""A server: a PostgreSQL that answers under a URL, and databases in it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

_numbers = itertools.count(1)


class Server:
    """A server that somebody else runs; its URL names a user who may create databases."""

    def __init__(self, url: str) -> None:
        self.url = url

    def url_of(self, database: str) -> str:
        """The URL of a database in this server."""
        return urlsplit(self.url)._replace(path=f"/{database}").geturl()

    def execute(self, statement: str | sql.Composed, *arguments: object) -> list[tuple]:
        """Run one statement on a connection of its own, outside any transaction, and return its rows."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=30) as connection:
            cursor = connection.execute(statement, arguments)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """Make an empty database, give its URL, and drop it at the end, whoever is still connected."""
        # Several test processes may share a server that was given.
        name = f"t_{os.getpid()}_{next(_numbers)}"
        database = sql.Identifier(name)
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(database))
        try:
            yield self.url_of(name)
        finally:
            self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
