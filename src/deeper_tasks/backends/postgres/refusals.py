"""Refusals: what the server or the driver says no with, in the words of our errors."""

from __future__ import annotations

import psycopg

from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.errors import (
    BackendError,
    BackendUnavailableError,
    DeeperTasksError,
    DuplicateJobError,
    InvalidOptionError,
    SchemaError,
)

OTHER_CONTENT, OTHER_STORE = "DT001", "DT002"
"""The codes of our own functions."""

AGAIN = frozenset({"40001", "40P01", "23505"})
"""A deadlock, or a race that another transaction has won."""
_NO_SCHEMA = frozenset({"3F000", "42P01", "42883", "42703"})
_CANCELLED, _NO_RIGHT, _READ_ONLY = "57014", "42501", "25006"
_GOING_AWAY = ("08", "53", "57", "58")


def is_worth_another_try(error: psycopg.Error) -> bool:
    """Whether the statement lost a race: a deadlock, or a row that somebody else inserted at the same moment."""
    return error.sqlstate in AGAIN


def translate(error: psycopg.Error, address: Address) -> DeeperTasksError:
    """Return the error of ours that says the same."""
    code, words = error.sqlstate or "", _words(error)
    if code == OTHER_CONTENT:
        return DuplicateJobError(f"a job with the id {words!r} exists already, with another task or other arguments")
    if code == OTHER_STORE:
        return InvalidOptionError(
            f"option 'connection' cannot belong to another database: the jobs are in {address!r}, "
            f"and a transaction can be of one database only"
        )
    if code in _NO_SCHEMA:
        return SchemaError(f"{address!r} lacks a part of the schema: {words}; run 'deeper migrate'")
    if code == _NO_RIGHT:
        return BackendError(f"{address!r} refuses: {words}; grant it, or run 'deeper migrate --sql' as one who may")
    return _unavailable(error, address) or BackendError(f"{address!r} refused: {words}")


def _unavailable(error: psycopg.Error, address: Address) -> BackendUnavailableError | None:
    code, words = error.sqlstate or "", _words(error)
    if code == _CANCELLED:
        return BackendUnavailableError(f"{address!r} did not finish in {address.timeout.total_seconds():g} s: {words}")
    is_ours = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError)
    if is_ours and (not code or code.startswith(_GOING_AWAY) or code == _READ_ONLY or code in AGAIN):
        return BackendUnavailableError(f"{address!r} is not available: {words}")
    return None


def _words(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).strip().partition("\n")[0]
