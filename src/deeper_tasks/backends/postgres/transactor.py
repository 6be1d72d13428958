"""The transactor: begins the transactions of jobs, and breaks off the open ones when the store closes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from weakref import WeakSet

import psycopg

from deeper_tasks.backends.postgres.address import Address, Pooler
from deeper_tasks.backends.postgres.connecting import Connection, abandon, connect, cut
from deeper_tasks.backends.postgres.job_transaction import PostgresJobTransaction
from deeper_tasks.backends.postgres.refusals import translate
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.forks import process_watch

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
"""The fence has to see the job's row as it is at the end, not as it was when the handler began."""
SET_UP = (
    "SELECT extract(epoch FROM now())::text, "
    # The handler may wait and compute for as long as the job may take; the worker watches that.
    "set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true), "
    # So the server has to notice by itself that the worker's machine is gone, and roll back.
    "set_config('tcp_keepalives_idle', '15', true), set_config('tcp_keepalives_interval', '5', true), "
    "set_config('tcp_keepalives_count', '3', true), set_config('tcp_user_timeout', '30000', true)"
)
SET_UP_17 = ", set_config('transaction_timeout', '0', true)"
_SINCE_17 = 170000


class Transactor:
    """
    Begins the transactions of jobs of a store, and knows the open ones.

    Each has a connection of its own, none of the store's: slow handlers would keep claims and heartbeats waiting.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._begun: WeakSet[PostgresJobTransaction] = WeakSet()
        process_watch.add(self)

    async def begin(self, *, is_async: bool, limit: timedelta | None, now: str | None) -> PostgresJobTransaction:
        """Begin one; see `Transacting.begin`."""
        transaction = await _begin(self._address, is_async=is_async, limit=limit, now=now)
        self._begun.add(transaction)
        return transaction

    def close(self) -> None:
        """Break off the open ones; the server rolls them back."""
        for transaction in list(self._begun):
            if not transaction.is_over:
                transaction.cut()

    def forget_parent(self) -> None:
        """Drop the parent's transactions in the child of a fork: the parent goes on using their sessions."""
        for transaction in list(self._begun):
            abandon(transaction.connection)
        self._begun = WeakSet()


async def _begin(
    address: Address, *, is_async: bool, limit: timedelta | None, now: str | None
) -> PostgresJobTransaction:
    """
    Begin the transaction of a job, on a new connection.

    Raises:
        BackendUnavailableError: the server accepts no further connection, or not in time.
    """
    try:
        # As through a pooler: the session is for the application, so the store's own settings are left out.
        own = await connect(address.conninfo, address=address, pooler=Pooler.TRANSACTION)
    except psycopg.Error as error:
        raise BackendUnavailableError(f"no connection for a job's transaction: {translate(error, address)}") from error
    own.prepare_threshold = None
    try:
        began = await _set_up(own, address)
    except BaseException:
        own.pgconn.finish()
        raise
    transaction = PostgresJobTransaction(own, is_async=is_async, address=address, began=began, now=now)
    if limit is not None:
        transaction.limit(limit)
    return transaction


async def _set_up(own: Connection, address: Address) -> str:
    statements = BEGIN + SET_UP + (SET_UP_17 if own.info.server_version >= _SINCE_17 else "")
    timer = asyncio.get_running_loop().call_later(address.timeout.total_seconds(), cut, own)
    try:
        cursor = await own.execute(statements)
        cursor.nextset()
        row = await cursor.fetchone()
    except psycopg.Error as error:
        raise translate(error, address) from error
    finally:
        timer.cancel()
    assert row is not None
    return str(row[0])
