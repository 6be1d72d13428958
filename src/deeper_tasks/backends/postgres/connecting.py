"""Connecting: opens one connection as this store needs it, and ends one that cannot be closed in the ordinary way."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection, BaseConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from deeper_tasks import native
from deeper_tasks.backends.postgres import session
from deeper_tasks.backends.postgres.address import Address, Pooler
from deeper_tasks.domain.durations import readable

Connection = AsyncConnection[tuple[Any, ...]]

_SHORTEST_CONNECT = 2
"""Seconds. libpq takes a smaller number for this one."""


async def connect(conninfo: str, *, address: Address, pooler: Pooler, seconds: float | None = None) -> Connection:
    """
    Open a connection with the settings that this store needs, within `seconds` or else the address's timeout.

    `pooler` is the kind of pooler on the way, if there is one.

    Raises:
        psycopg.Error: the server refused the connection, or did not answer in time.
    """
    given = address.timeout.total_seconds() if seconds is None else seconds
    try:
        # The driver's own deadline counts for each address of each host, and not for the lookup of the addresses.
        async with asyncio.timeout(given):
            return await _connect(conninfo, address, pooler)
    except TimeoutError as error:
        raise psycopg.errors.ConnectionTimeout(f"not connected within {readable(given)}") from error


def connect_blocking(address: Address) -> psycopg.Connection[tuple[Any, ...]]:
    """
    Open a connection in the same way, for a caller that cannot await: it blocks the thread.

    Raises:
        psycopg.Error: the server refused the connection, or did not answer in time.
    """
    connection = psycopg.Connection.connect(_parameters(address.conninfo, address, address.pooler), autocommit=True)
    connection.prepare_threshold = None
    return connection


async def _connect(conninfo: str, address: Address, pooler: Pooler) -> Connection:
    connection = await AsyncConnection.connect(
        _parameters(conninfo, address, pooler),
        autocommit=True,
        # Behind a pooler the next statement may reach another server process, which does not know the prepared ones.
        prepare_threshold=1 if pooler is Pooler.NONE else None,
    )
    if pooler is not Pooler.NONE:
        session.prepare(connection)
    return connection


def _parameters(conninfo: str, address: Address, pooler: Pooler) -> str:
    """Return libpq's parameters of a connection, with this store's own where the address leaves them open."""
    wanted = conninfo_to_dict(conninfo)
    hosts = str(wanted.get("host") or "").count(",") + 1
    own: dict[str, Any] = {
        # So that each of several hosts is tried before the deadline.
        "connect_timeout": max(_SHORTEST_CONNECT, int(address.timeout.total_seconds() / hosts)),
        # A peer that vanished is noticed within half a minute, even if nothing is sent.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "application_name": "deeper_tasks",
    }
    if pooler is Pooler.NONE:
        own["options"] = session.options(address, str(wanted.get("options") or ""))
        wanted.pop("options", None)
    wanted["client_encoding"] = "UTF8"
    return make_conninfo(**{**own, **wanted})


def cut(connection: BaseConnection[Any]) -> None:
    """End a connection without sending anything, so that every call that waits for the server fails at once."""
    with suppress(psycopg.Error, OSError), native.Socket(fileno=os.dup(connection.pgconn.socket)) as double:
        double.shutdown(socket.SHUT_RDWR)


def abandon(connection: BaseConnection[Any]) -> None:
    """Close a connection that the parent process goes on using, without sending anything to the server."""
    with suppress(psycopg.Error, OSError):
        descriptor = os.open(os.devnull, os.O_RDWR)
        os.dup2(descriptor, connection.pgconn.socket)
        native.close(descriptor)
    close(connection)


def is_cut(connection: Connection) -> bool:
    """Return whether the server has sent something unasked: it does so only to end the connection."""
    if connection.closed:
        return True
    poll = native.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def close(connection: BaseConnection[Any]) -> None:
    """Close a connection, in any thread."""
    # Not the connection's own coroutine: its event loop may be closed, or another than this one.
    connection.pgconn.finish()
