"""Refusals: the errors of the server and the driver, as this library's errors."""

from __future__ import annotations

import psycopg

from deeper_tasks.backends.migrations import SchemaLostError
from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import (
    AccessError,
    BackendError,
    BackendUnavailableError,
    DeeperTasksError,
    DuplicateJobError,
)

OTHER_CONTENT, OTHER_STORE, OLDER_SNAPSHOT = "DT001", "DT002", "DT003"
"""The codes of this store's own SQL functions."""
AGAIN = frozenset({"40001", "40P01", "23505"})
"""A deadlock, or a race that another transaction has won."""

POOLER_WAY_OUT = "if a pooler such as PgBouncer stands between, add ?pooler=transaction to the store's URL"

_POOLER_SAYS = "unsupported startup parameter"
_LOST = ("57P01", "57P02", "57P03", "57P05", "08")
NO_SCHEMA = frozenset({"3F000", "42P01", "42883", "42703"})
_TOO_MUCH = "54000"
NO_RIGHT = "42501"
_CANCELLED, _LOCKED, _READ_ONLY = "57014", "55P03", "25006"
_NOT_PREPARED, _PREPARED_TWICE = "26000", "42P05"
_STALE_PLAN = "0A000"
"""A statement was prepared before the schema was made again, and its answer has other types now."""
_GOING_AWAY = ("08", "53", "57", "58", *AGAIN, _READ_ONLY, "25P03", "25P04")
"""
Classes of codes, and codes: no connection, no resources, an operator, the system; a race that was lost too often; a
server that only reads; a session that the server ended because it was idle or open for too long.
"""
_OF_SESSION = (_READ_ONLY, OTHER_STORE, "58", "XX", _STALE_PLAN, _NOT_PREPARED, _PREPARED_TWICE, NO_RIGHT, *NO_SCHEMA)
"""
Classes of codes, and codes, that may be caused by the session: by its server, which is no longer the primary, by the
statements that the server has prepared for it, or by the settings with which it began.
"""


class OtherStoreError(BackendUnavailableError):
    """The store that answers is another than the one that was opened."""


class OverLimitError(BackendError):
    """A limit of the server: the queue of notifications is full, or a value is longer than an index can hold."""


class RowLockedError(BackendUnavailableError):
    """Another transaction has had a row locked for longer than a statement waits."""


def is_worth_another_try(error: psycopg.Error) -> bool:
    """Return whether the statement lost a race: a deadlock, or a row that another transaction had just inserted."""
    return error.sqlstate in AGAIN


def is_of_lost_connection(error: psycopg.Error) -> bool:
    """Return whether the server or the network ended the connection."""
    return isinstance(error, psycopg.OperationalError) and (not error.sqlstate or error.sqlstate.startswith(_LOST))


def is_of_session(error: psycopg.Error) -> bool:
    """Return whether the same statement may succeed in a new session. The server carried out no part of it."""
    return error.sqlstate is not None and error.sqlstate.startswith(_OF_SESSION)


def is_of_pooler(error: Exception) -> bool:
    """Return whether the error seems to come from a pooler, where a server was expected."""
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    return code in {_NOT_PREPARED, _PREPARED_TWICE} or _POOLER_SAYS in str(error)


def first_line(error: Exception, address: Address) -> str:
    """Return the message of an error without the details, and without what the address does not show."""
    return address.without_secrets(str(error).strip().partition("\n")[0])


def translate(error: psycopg.Error, address: Address) -> DeeperTasksError:
    """Return this library's error for one of the driver."""
    code, words = error.sqlstate or "", _words(error, address)
    if code == OTHER_CONTENT:
        return DuplicateJobError(
            f"a job with the id {words!r} exists already, with another task or other arguments", request_id=words
        )
    if code == OTHER_STORE:
        return OtherStoreError(
            f"the store in {address!r} is not the one that was opened: another store has taken its place"
        )
    if code in NO_SCHEMA:
        return SchemaLostError(f"{address!r} lacks a part of the schema: {words}; run 'deeper migrate'")
    if code == NO_RIGHT:
        return AccessError(
            f"{address!r} refuses: {words}; grant it, or have a user with the right run the statements of 'deeper "
            f"migrate --sql'"
        )
    if code == _TOO_MUCH:
        return OverLimitError(f"{address!r} refused: {words}")
    return _unavailable(error, address) or BackendError(f"{address!r} refused: {words}")


def _unavailable(error: psycopg.Error, address: Address) -> BackendUnavailableError | None:
    code, words = error.sqlstate or "", _words(error, address)
    if code == _LOCKED:
        return RowLockedError(
            f"{address!r}: another transaction has locked a row of the store, see 'deeper doctor': {words}"
        )
    if is_of_pooler(error):
        return BackendUnavailableError(
            f"{address!r} no longer has the prepared statements of a session: {words}; {POOLER_WAY_OUT}"
        )
    if code == _CANCELLED:
        return BackendUnavailableError(f"{address!r} did not finish in {readable(address.timeout)}: {words}")
    if code == _READ_ONLY:
        return BackendUnavailableError(
            f"{address!r} accepts no writes at present: {words}; 'deeper doctor' names the cause"
        )
    is_operational = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError)
    if is_operational and (not code or code.startswith(_GOING_AWAY)):
        return BackendUnavailableError(f"{address!r} is not available: {words}")
    return None


def _words(error: psycopg.Error, address: Address) -> str:
    primary = error.diag.message_primary
    return address.without_secrets(primary.strip().partition("\n")[0]) if primary else first_line(error, address)
