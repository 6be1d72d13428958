"""The session: the settings that the store's statements need, wherever other settings come from."""

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
    # The driver cannot read the moments and durations of other styles.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    # With one snapshot for the whole transaction, a claim would not see the rescue for which it waited.
    "default_transaction_isolation": "read committed",
    # When it is off, NULL in an array literal is a word like any other.
    "array_nulls": "on",
}
"""The settings that a session needs; without a pooler they are set when it connects."""

SELECT_SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)"

_NEEDED_OF_POOLER = ("default_transaction_isolation", "array_nulls")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def options(address: Address, given: str) -> str:
    """Return libpq's `options` for a new session: defaults, then the given options, then the needed settings."""
    milliseconds = int(address.timeout.total_seconds() * 1000)
    wanted = {
        # For a statement that no caller waits for any more: the deadline of the call has passed by then.
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        # A server may limit these for a user. The store's sessions are few, wait only within the deadline, and are used
        # again.
        "lock_timeout": 0,
        "idle_session_timeout": 0,
    }
    return " ".join(part for part in (_written(wanted), given, _written(NEEDED)) if part)


def prepare(connection: AsyncConnection[Any]) -> None:
    """Make a connection give moments in UTC. Behind a pooler its time zone can be any."""
    connection.adapters.register_loader("timestamptz", _UtcLoader)


async def check(connection: AsyncConnection[Any], address: Address) -> None:
    """
    Check that a session has the needed settings. A session from a pooler may lack them: some poolers ignore settings.

    Raises:
        SchemaError: a setting of the server, of the database or of the user is another one.
    """
    rows = await (await connection.execute(SELECT_SETTINGS, [list(_NEEDED_OF_POOLER)])).fetchall()
    wrong = {name: setting for name, setting in rows if setting != NEEDED[name]}
    for name, setting in sorted(wrong.items()):
        raise SchemaError(
            f"{address!r} opens sessions with {name} = {setting!r}, and through a pooler the store cannot change that: "
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
            # As the driver's own loaders do: then the rows are read tolerantly.
            raise DataError("a time is outside the range of the calendar") from error
