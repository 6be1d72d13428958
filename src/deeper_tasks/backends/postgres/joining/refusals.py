"""Refusals: errors for a connection that cannot be used, and this library's errors for those of every driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.backends.postgres.joining.connection import CallersConnection
from deeper_tasks.backends.postgres.refusals import AGAIN, OLDER_SNAPSHOT, OTHER_CONTENT, OTHER_STORE
from deeper_tasks.backends.postgres.rights import Use, grants
from deeper_tasks.errors import (
    AccessError,
    BackendError,
    BackendUnavailableError,
    DeeperTasksError,
    DuplicateJobError,
    InvalidOptionError,
)

_DEADLOCK = "40P01"
_NO_TRANSACTION, _FAILED_TRANSACTION, _READ_ONLY = "25P01", "25P02", "25006"
_NO_SCHEMA = frozenset({"3F000", "42883"})
_NO_RIGHT = "42501"
_GAVE_UP = frozenset({"57014", "55P03"})
_GOING_AWAY = ("08", "53", "57", "58", "25P03", "25P04")


class OtherDatabaseError(InvalidOptionError):
    """The connection belongs to a database without a store, or with another store than the one that was opened."""


def refused(lack: str, way_out: str) -> InvalidOptionError:
    """Return the error for a connection that cannot do or be something."""
    return InvalidOptionError(f"option 'connection' cannot {lack}: {way_out}")


def closed() -> InvalidOptionError:
    """Return the error for a connection that its owner has closed."""
    return refused("be closed", "give the connection that your transaction is open on")


def has_lost_a_race(error: Exception) -> bool:
    """Return whether another transaction was in the way, so that a second try may succeed."""
    return _cause(error)[0] in AGAIN


@contextmanager
def translated(connection: CallersConnection, address: Address) -> Iterator[None]:
    """Translate every exception that a driver raises."""
    try:
        yield
    except connection.errors as error:
        raise _translated(error, connection, address) from error
    except UnicodeError as error:
        raise refused("send this job", f"{error}; connect with client_encoding=UTF8") from error


def _translated(error: Exception, connection: CallersConnection, address: Address) -> DeeperTasksError:
    code, words = _cause(error)
    words = address.without_secrets(words)
    return (
        _duplicate(code, words)
        or _unusable(code, words, connection, address)
        or _unavailable(code, words, address, is_lost=isinstance(error, OSError) or connection.is_lost(error))
        or _unexpected(code, words, address)
    )


def _cause(error: Exception) -> tuple[str, str]:
    """Return the code and the first line of the server's error, which the libraries wrap in their own."""
    code, words = "", _first_line(error)
    below: Exception | None = error
    while below is not None:
        if isinstance(found := getattr(below, "sqlstate", None), str):
            code, words = found, _first_line(below)
        wrapped = getattr(below, "orig", None) or below.__cause__
        below = wrapped if isinstance(wrapped, Exception) else None
    return code, words


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _duplicate(code: str, words: str) -> DuplicateJobError | None:
    if code != OTHER_CONTENT:
        return None
    return DuplicateJobError(
        f"a job with the id {words!r} exists already, with another task or other arguments", request_id=words
    )


def _unusable(
    code: str, words: str, connection: CallersConnection, address: Address
) -> InvalidOptionError | BackendError | None:
    if code == _NO_TRANSACTION:
        return refused("be one without an open transaction", f"{connection.how_to_begin}, or leave connection= out")
    if code == _FAILED_TRANSACTION:
        return refused(
            "be in a transaction that has failed", "roll it back, or to a savepoint from before its first error"
        )
    if code == _READ_ONLY:
        return refused("be in a read-only transaction", "begin it READ WRITE, on the primary server")
    if code == OTHER_STORE or code in _NO_SCHEMA:
        way_out = f"the jobs are in {address!r}, and a transaction can be of one database only"
        if code in _NO_SCHEMA:
            way_out += "; if it is that one, it has lost its schema: run 'deeper migrate'"
        return OtherDatabaseError(f"option 'connection' cannot belong to another database: {way_out}")
    if code == _NO_RIGHT:
        return AccessError(
            f"the user of the connection may not enqueue in {address!r}: {words}; as the owner of the schema: "
            f"{grants(Use.ENQUEUE, schema=address.schema, user='')}"
        )
    return None


def _unavailable(code: str, words: str, address: Address, *, is_lost: bool) -> BackendUnavailableError | None:
    if code == _DEADLOCK:
        return BackendUnavailableError(
            f"the transaction and another wait for each other (a deadlock) in {address!r}: roll back and run the whole "
            f"transaction again, and take unique keys in the same order everywhere"
        )
    if code == OLDER_SNAPSHOT:
        return BackendUnavailableError(
            f"the transaction began before the store in {address!r} was created, and cannot see it: roll back and run "
            f"the whole transaction again; open "
            f"the manager at the start, or run 'deeper migrate', to create the store earlier"
        )
    if code in AGAIN:
        return BackendUnavailableError(
            f"another transaction changed the same rows first in {address!r} ({words}): roll back and run the whole "
            f"transaction again"
        )
    if code in _GAVE_UP:
        return BackendUnavailableError(
            f"a timeout of the connection ended the enqueue in {address!r} ({words}): "
            f"another transaction may hold its unique key; try again, or roll back"
        )
    if is_lost or code.startswith(_GOING_AWAY):
        return BackendUnavailableError(
            f"the connection to {address!r} is lost, and its transaction with it: {words}; run the whole transaction "
            f"again"
        )
    return None


def _unexpected(code: str, words: str, address: Address) -> DeeperTasksError:
    return BackendError(f"{address!r} refused: {words}") if code else refused("be used", words)
