"""An address: the place of the database, and how this store uses it."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from msgspec import Struct
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from deeper_tasks.config import HIDDEN, redacted, without_secret_pairs
from deeper_tasks.errors import ConfigError

_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,47}")
"""Short enough for the name of the channel, and the same with and without quotes."""

_SHOWN = ("host", "port", "dbname", "user")
_QUOTED = (*_SHOWN, "hostaddr", "password", "sslpassword")
"""The parts of an address that the driver and the server may quote; if it is mistyped, one may hold the password."""


class Pooler(StrEnum):
    """The kind of pooler between this process and the server."""

    NONE = "none"
    TRANSACTION = "transaction"
    """A pooler that lends a connection for one transaction: session settings do not last, and no hint can be heard."""


class Address(Struct, frozen=True, kw_only=True):
    """
    An address. `conninfo` is libpq's, a URL or pairs; it may hold a password.

    `schema` is the database's schema that holds the tables, `timeout` the time
    that a call may take, `pool_size` the most connections of an event loop.
    `listen_conninfo` leads around a pooler, so that hints can be heard. Without
    `joined_hints` an insert that joins a caller's transaction sends none.
    """

    conninfo: str
    schema: str = "deeper"
    timeout: timedelta = timedelta(seconds=10)
    pool_size: int = 10
    pooler: Pooler = Pooler.NONE
    listen_conninfo: str | None = None
    joined_hints: bool = True

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            raise ConfigError(
                f"schema={self.schema!r} cannot be a name: use up to 48 of a-z, 0-9 and _, "
                f"not beginning with a digit or pg_"
            )
        if self.timeout <= timedelta(0):
            raise ConfigError(f"timeout={self.timeout.total_seconds():g} cannot be used: give more than 0 seconds")
        if self.pool_size < 1:
            raise ConfigError(f"pool_size={self.pool_size} leaves no connection: give at least 1")

    @property
    def channel(self) -> str:
        """The channel of the hints."""
        return f"deeper_{self.schema}"

    @property
    def can_listen(self) -> bool:
        """Whether hints can be heard."""
        return self.pooler is Pooler.NONE or self.listen_conninfo is not None

    def without_secrets(self, words: str) -> str:
        """Return words of the server or the driver without what this address does not show: it may be the password."""
        for conninfo in filter(None, (self.conninfo, self.listen_conninfo)):
            shown = unquote(_shown(conninfo))
            for value in _quotable(conninfo):
                if value not in shown:
                    words = words.replace(value, HIDDEN)
        return without_secret_pairs(words)

    def __repr__(self) -> str:
        # Error messages show it.
        return f"{_shown(self.conninfo)!r} (schema {self.schema!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("conninfo", _shown(self.conninfo)), ("schema", self.schema)]


def _quotable(conninfo: str) -> list[str]:
    """Return the values that the driver may quote, the longest first."""
    try:
        pairs = conninfo_to_dict(conninfo)
    except ProgrammingError:
        return []
    values = {part for name in _QUOTED if name in pairs for part in (pairs[name], *str(pairs[name]).split(","))}
    return sorted(filter(None, map(str, values)), key=len, reverse=True)


def _shown(conninfo: str) -> str:
    """Return the address without its secrets. Pairs do not mark a password, so only some of them are shown."""
    if "://" in conninfo:
        return redacted(conninfo)
    try:
        pairs = conninfo_to_dict(conninfo)
    except ProgrammingError:
        return "…"
    return " ".join(f"{name}={without_secret_pairs(str(pairs[name]))}" for name in _SHOWN if name in pairs)
