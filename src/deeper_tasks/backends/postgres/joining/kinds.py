"""The kinds of connections that an insert can join, recognised by their types: no library is imported for that."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from deeper_tasks.backends.postgres.joining.connection import CallersConnection
from deeper_tasks.backends.postgres.joining.refusals import refused
from deeper_tasks.backends.postgres.joining.through_asyncpg import ThroughAsyncpg
from deeper_tasks.backends.postgres.joining.through_django import ThroughDjango
from deeper_tasks.backends.postgres.joining.through_psycopg import ThroughAsyncPsycopg, ThroughPsycopg
from deeper_tasks.backends.postgres.joining.through_sqlalchemy import ThroughAsyncSQLAlchemy, ThroughSQLAlchemy

_KINDS: dict[tuple[str, str], Callable[[Any], CallersConnection]] = {
    ("psycopg", "Connection"): ThroughPsycopg,
    ("psycopg", "AsyncConnection"): ThroughAsyncPsycopg,
    ("sqlalchemy", "Session"): partial(ThroughSQLAlchemy, is_session=True),
    ("sqlalchemy", "Connection"): partial(ThroughSQLAlchemy, is_session=False),
    ("sqlalchemy", "AsyncSession"): partial(ThroughAsyncSQLAlchemy, is_session=True),
    ("sqlalchemy", "AsyncConnection"): partial(ThroughAsyncSQLAlchemy, is_session=False),
    # A call of the scope returns its current session.
    ("sqlalchemy", "scoped_session"): lambda scope: ThroughSQLAlchemy(scope(), is_session=True),
    ("sqlalchemy", "async_scoped_session"): lambda scope: ThroughAsyncSQLAlchemy(scope(), is_session=True),
    ("asyncpg", "Connection"): ThroughAsyncpg,
    ("asyncpg", "PoolConnectionProxy"): ThroughAsyncpg,
    ("django", "BaseDatabaseWrapper"): ThroughDjango,
    ("django", "ConnectionProxy"): ThroughDjango,
}
"""By the package and the name of a class, the connection's own or one that it inherits from."""

_INSTEAD = {
    ("psycopg2", "connection"): "psycopg2 is not supported: give a psycopg (3) connection or the SQLAlchemy Session",
    ("sqlalchemy", "Engine"): "give the Session or the Connection that your transaction is open on",
    ("sqlalchemy", "AsyncEngine"): "give the AsyncSession or the AsyncConnection that your transaction is open on",
    ("sqlalchemy", "sessionmaker"): "give the Session that your transaction is open on",
    ("sqlalchemy", "async_sessionmaker"): "give the AsyncSession that your transaction is open on",
    ("asyncpg", "Pool"): "give the connection that your transaction is open on: 'async with pool.acquire()'",
    ("psycopg_pool", "BasePool"): "give the connection that your transaction is open on: 'with pool.connection()'",
    ("sqlite3", "Connection"): "the jobs are in PostgreSQL",
}

_ANY = (
    "give the connection of your transaction: psycopg's, SQLAlchemy's Session or Connection, asyncpg's or Django's, "
    "blocking or async"
)


def recognise(connection: object) -> CallersConnection:
    """
    Return the caller's connection as one that an insert can join.

    Raises:
        InvalidOptionError: an insert cannot join an object of this type.
    """
    classes = [(kind.__module__.partition(".")[0], kind.__qualname__) for kind in type(connection).__mro__]
    for each in classes:
        if each in _KINDS:
            return _KINDS[each](connection)
    kind = f"{type(connection).__module__}.{type(connection).__qualname__}".removeprefix("builtins.")
    raise refused(f"be of the type {kind}", next((_INSTEAD[each] for each in classes if each in _INSTEAD), _ANY))


def is_async(connection: object) -> bool:
    """Return whether an insert through the connection awaits. Raises as `recognise` does."""
    return recognise(connection).is_async
