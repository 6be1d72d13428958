"""The session: what our statements need of its settings, whoever else has a say in them."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import AsyncConnection, DataError
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.errors import SchemaError

NEEDED = {
    "TimeZone": "UTC",
    # In what other styles write, the driver reads neither moments nor durations.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    # With a snapshot of the whole transaction a claim would not see the rescue that it waited for.
    "default_transaction_isolation": "read committed",
    # Old: NULL in an array literal would be a word like any other.
    "array_nulls": "on",
}
"""What a session has to have; without a pooler we set it when we connect."""

SELECT_SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)"

_NEEDED_OF_POOLER = ("default_transaction_isolation", "array_nulls")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def options(address: Address, given: str) -> str:
    """Return libpq's `options` for a new session: what may be set otherwise, what was given, and what is needed."""
    milliseconds = int(address.timeout.total_seconds() * 1000)
    wanted = {
        # Behind the deadline, for a statement that no caller waits for any more.
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        # Of a user whom a server protects itself from: these sessions are few, wait within the deadline, and are used
        # again.
        "lock_timeout": 0,
        "idle_session_timeout": 0,
    }
    return " ".join(part for part in (_written(wanted), given, _written(NEEDED)) if part)


def prepare(connection: AsyncConnection[Any]) -> None:
    """Make a connection through a pooler, whose time zone is anyone's, give moments in UTC."""
    connection.adapters.register_loader("timestamptz", _UtcLoader)


async def check(connection: AsyncConnection[Any], address: Address) -> None:
    """
    See that a session has what is needed. One that a pooler lends may not, said or not: some ignore what we ask for.

    Raises:
        SchemaError: a setting of the server, of the database or of the user stands against us.
    """
    rows = await (await connection.execute(SELECT_SETTINGS, [list(_NEEDED_OF_POOLER)])).fetchall()
    wrong = {name: setting for name, setting in rows if setting != NEEDED[name]}
    for name, setting in sorted(wrong.items()):
        raise SchemaError(
            f"{address!r} opens sessions with {name} = {setting!r}, and through a pooler we cannot change that: "
            f"ALTER ROLE {connection.info.user} SET {name} = '{NEEDED[name]}', and have the pooler reconnect"
        )


def _written(settings: dict[str, Any]) -> str:
    return " ".join(f"-c {name}={str(value).replace(' ', chr(92) + ' ')}" for name, value in settings.items())


class _UtcLoader(Loader):
    """Reads a moment as the server sends it in binary: microseconds since 2000, whatever the session's time zone."""

    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        (microseconds,) = struct.unpack("!q", data)
        try:
            return _EPOCH + timedelta(microseconds=microseconds)
        except OverflowError as error:
            # What the driver's own loaders raise: then the rows are read tolerantly.
            raise DataError("a moment lies beyond the calendar") from error
