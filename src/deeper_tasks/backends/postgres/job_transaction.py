"""A job's transaction: a session of its own, which the handler uses first and the store ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from deeper_tasks.backends.codes import STATES
from deeper_tasks.backends.postgres import reporting, settling
from deeper_tasks.backends.postgres.address import Address, Pooler
from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.connection_guard import (
    Guarded,
    GuardedAsyncConnection,
    GuardedConnection,
    ended_before,
    is_in_use,
)
from deeper_tasks.backends.postgres.connections import Connection, connect, cut
from deeper_tasks.backends.postgres.refusals import translate
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.settlement import Report, Settled, Settlement
from deeper_tasks.errors import BackendError, BackendUnavailableError, TransactionError

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
"""The fence has to see the row as it is then, not as it was when the handler began."""
SET_UP = (
    "SELECT extract(epoch FROM now())::text, "
    # The worker watches the handler, who may wait and compute for as long as the job may take.
    "set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true), "
    # So the server has to find out by itself that a machine is gone, and with it who would roll back.
    "set_config('tcp_keepalives_idle', '15', true), set_config('tcp_keepalives_interval', '5', true), "
    "set_config('tcp_keepalives_count', '3', true), set_config('tcp_user_timeout', '30000', true)"
)
SET_UP_17 = ", set_config('transaction_timeout', '0', true)"
_SINCE_17 = 170000
WIND_UP = (
    "SELECT extract(epoch FROM now())::text, set_config('array_nulls', 'on', true), "
    "set_config('statement_timeout', %(milliseconds)s::text, true), "
    "set_config('lock_timeout', %(milliseconds)s::text, true), "
    "set_config('idle_in_transaction_session_timeout', %(milliseconds)s::text, true)"
)
"""The moment when a transaction began tells it from another. From here on the server does not wait for us for ever."""
FENCE = (
    "SELECT job.id::text FROM {schema}.job "
    "WHERE job.id = %(id)s::uuid AND job.token = %(token)s::text AND job.state + 0 = 4 FOR NO KEY UPDATE"
)

PAUSE = "SELECT pg_sleep(0.05)"
_BETWEEN_CANCELS = 0.05
_PATIENCE = 2.0
"""Seconds in which a statement that was cancelled ends, before its connection is cut."""


class PostgresJobTransaction:
    """
    See `JobTransaction`. Handler and store have a connection object each, over one and the same session.

    So the store's has none of what a handler may have set on its own: row factories, adapters, prepared statements.
    """

    def __init__(self, own: Connection, *, is_async: bool, address: Address, began: str, now: str | None) -> None:
        self.connection: Guarded = (GuardedAsyncConnection if is_async else GuardedConnection)(own.pgconn)
        if address.pooler is not Pooler.NONE:
            self.connection.prepare_threshold = None
        self.is_over = False
        self.blocked_file: str | None = None
        self._own = own
        self._address = address
        self._began = began
        self._now = now
        self._broken: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._cancels: set[asyncio.Task[None]] = set()
        self._was_cancelled = False
        self._ending: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def broken(self) -> Exception | None:
        """See `JobTransaction.broken`."""
        if self._broken is None and not self.is_over and self._own.closed:
            self._broken = BackendUnavailableError(
                f"the connection to {self._address!r} was lost, and the job's transaction with it"
            )
        return self._broken

    @property
    def spoiled(self) -> TransactionError | None:
        """See `JobTransaction.spoiled`."""
        return self.connection.guard.ended

    async def complete(self, settlement: Settlement, *, report: Report | None = None) -> Settled | None:
        """See `JobTransaction.complete`."""
        if self.is_over:
            raise TransactionError("the job's transaction is over") from self._broken
        self.is_over = True
        self.connection.guard.shut()
        try:
            self._check_state()
            return await self._complete(settlement, report)
        except psycopg.Error as error:
            raise translate(error, self._address) from error
        finally:
            await self._close()

    async def rollback(self) -> None:
        """See `JobTransaction.rollback`."""
        if not self.is_over:
            self.is_over = True
            self._ending = self._loop.create_task(self._close())
        if self._ending is not None:
            await asyncio.shield(self._ending)

    def interrupt(self) -> None:
        """See `JobTransaction.interrupt`."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._start_cancel)

    def limit(self, limit: timedelta) -> None:
        """Roll back after so long, in the middle of whatever the handler does."""
        self._timer = self._loop.call_later(limit.total_seconds(), self._break_off, limit)

    def cut(self) -> None:
        """Have whatever is done in it fail at once; from any thread."""
        cut(self._own)

    # its end

    def _break_off(self, limit: timedelta) -> None:
        if not self.is_over:
            error = TimeoutError(f"the job's transaction took longer than the {readable(limit)} that it may")
            self.is_over, self._broken = True, error
            self.connection.guard.shut(f"{error}; it was rolled back")
            self._ending = self._loop.create_task(self._close())

    def _check_state(self) -> None:
        status = self._own.pgconn.transaction_status
        if self.connection.guard.ended is not None:
            raise self.connection.guard.ended
        if is_in_use(self.connection):
            raise TransactionError(
                "a statement, a COPY, a stream or a pipeline of the task was still open in the job's transaction when "
                "the task returned: nothing is known to be whole, and all was rolled back; close it before"
            )
        if status == TransactionStatus.INERROR:
            raise BackendError(
                "a statement of the task has failed, and PostgreSQL refuses all that follows it in the job's "
                "transaction: let the error end the task, or try what may fail inside 'with connection.transaction():'"
            )

    async def _complete(self, settlement: Settlement, report: Report | None) -> Settled | None:
        for cancel in tuple(self._cancels):
            await asyncio.wait((cancel,))
        async with self._deadline():
            while self._was_cancelled:
                await self._await_cancel()
            milliseconds = str(int(self._seconds * 1000))
            [(began, *_)] = await self._rows(WIND_UP, {"milliseconds": milliseconds})
            if began != self._began:
                raise ended_before()
            # Settling answers a token that has settled before as well: that was not in this transaction.
            if not await self._rows(FENCE, {"id": settlement.id, "token": settlement.token}):
                return None
            if report is not None:
                await self._rows(reporting.REPORT, reporting.values_of([report], now=self._now))
            [(_, state)] = await self._rows(settling.SETTLE, settling.values_of([settlement], now=self._now))
        async with self._deadline():
            await self._own.execute("COMMIT")
        return Settled(id=settlement.id, state=STATES[state])

    async def _await_cancel(self) -> None:
        """Let a cancel come to nothing that came too late for the handler's statement: it may be on its way still."""
        await self._own.execute("SAVEPOINT deeper_pause")
        try:
            await self._own.execute(PAUSE)
            self._was_cancelled = False
        except psycopg.errors.QueryCanceled:
            await self._own.execute("ROLLBACK TO SAVEPOINT deeper_pause")

    @property
    def _seconds(self) -> float:
        return self._address.timeout.total_seconds()

    async def _rows(self, statement: str, values: dict[str, Any]) -> list[Row]:
        cursor = await self._own.execute(statement.format(schema=f'"{self._address.schema}"'), values)
        return list(await cursor.fetchall())

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        has_passed = False

        def end() -> None:
            nonlocal has_passed
            has_passed = True
            cut(self._own)

        timer = self._loop.call_later(self._seconds, end)
        try:
            yield
        except psycopg.Error as error:
            if has_passed:
                raise BackendUnavailableError(
                    f"{self._address!r} did not answer in {readable(self._seconds)}"
                ) from error
            raise
        finally:
            timer.cancel()

    # let go

    async def _close(self) -> None:
        """Roll back what is not committed, and close the session, however long a statement would still run."""
        self.connection.guard.shut()
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._stop_use()
            if self._own.pgconn.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
                with suppress(psycopg.Error, BackendUnavailableError):
                    async with self._deadline():
                        await self._own.execute("ROLLBACK")
        finally:
            self._own.pgconn.finish()

    async def _stop_use(self) -> None:
        """Have a statement of the handler end that is still under way: in a thread that nobody stops, for example."""
        until = self._loop.time() + _PATIENCE
        while is_in_use(self.connection) and self._loop.time() < until:
            self._start_cancel()
            await asyncio.sleep(_BETWEEN_CANCELS)
        if is_in_use(self.connection):
            # Somebody stopped in the middle of a COPY, or the server does not answer.
            cut(self._own)
            await asyncio.sleep(_BETWEEN_CANCELS)

    def _start_cancel(self) -> None:
        if is_in_use(self.connection) and not self._cancels:
            cancel = self._loop.create_task(self._cancel())
            self._cancels.add(cancel)
            cancel.add_done_callback(self._cancels.discard)

    async def _cancel(self) -> None:
        self._was_cancelled = True
        with suppress(psycopg.Error, OSError):
            await self._own.cancel_safe(timeout=_PATIENCE)


async def begin(
    address: Address, *, is_async: bool, limit: timedelta | None, now: str | None
) -> PostgresJobTransaction:
    """
    Begin the transaction of a job, on a new connection.

    Raises:
        BackendUnavailableError: the server takes no other connection, or did not in time.
    """
    try:
        # As if a pooler stood between: the session is the application's, and nothing of ours is to be set in it.
        own = await connect(address.conninfo, address=address, pooler=Pooler.TRANSACTION)
    except psycopg.Error as error:
        raise BackendUnavailableError(f"no connection for a job's transaction: {translate(error, address)}") from error
    own.prepare_threshold = None
    try:
        began = await _begin(own, address)
    except BaseException:
        own.pgconn.finish()
        raise
    transaction = PostgresJobTransaction(own, is_async=is_async, address=address, began=began, now=now)
    if limit is not None:
        transaction.limit(limit)
    return transaction


async def _begin(own: Connection, address: Address) -> str:
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
