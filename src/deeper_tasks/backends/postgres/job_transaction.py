"""A job's transaction: a session of its own, in which the handler writes and which the store ends."""

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
from deeper_tasks.backends.postgres.connecting import Connection, cut
from deeper_tasks.backends.postgres.connection_guard import (
    Guarded,
    GuardedAsyncConnection,
    GuardedConnection,
    ended_before,
    is_in_use,
)
from deeper_tasks.backends.postgres.refusals import translate
from deeper_tasks.backends.postgres.statement_cancel import StatementCancel
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.settlement import Report, Settled, Settlement
from deeper_tasks.errors import BackendError, BackendUnavailableError, TransactionError

WIND_UP = (
    "SELECT extract(epoch FROM now())::text, set_config('array_nulls', 'on', true), "
    "set_config('statement_timeout', %(milliseconds)s::text, true), "
    "set_config('lock_timeout', %(milliseconds)s::text, true), "
    "set_config('idle_in_transaction_session_timeout', %(milliseconds)s::text, true)"
)
"""The moment when a transaction began identifies it. From here on the server waits for a limited time only."""
FENCE = (
    "SELECT job.id::text FROM {schema}.job "
    "WHERE job.id = %(id)s::uuid AND job.token = %(token)s::text AND job.state + 0 = 4 FOR NO KEY UPDATE"
)


class PostgresJobTransaction:
    """
    See `JobTransaction`. The handler and the store have one connection object each, over the same session.

    So the store's object has none of the settings that a handler may make on its own: row factories, adapters, prepared
    statements.
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
        self._cancel = StatementCancel(self.connection, own)
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
        self._cancel.start_from_any_thread()

    def limit(self, limit: timedelta) -> None:
        """Roll back after this time, whatever the handler does at that moment."""
        self._timer = self._loop.call_later(limit.total_seconds(), self._break_off, limit)

    def cut(self) -> None:
        """Make every use of the transaction fail at once; from any thread."""
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
                "the task returned: its data may be incomplete, so the transaction was rolled back; close it before "
                "the task returns"
            )
        if status == TransactionStatus.INERROR:
            raise BackendError(
                "a statement of the task has failed, and PostgreSQL refuses all that follows it in the job's "
                "transaction: let the error end the task, or put a statement that may fail inside 'with "
                "connection.transaction():'"
            )

    async def _complete(self, settlement: Settlement, report: Report | None) -> Settled | None:
        await self._cancel.wait()
        async with self._deadline():
            await self._cancel.absorb()
            milliseconds = str(int(self._seconds * 1000))
            [(began, *_)] = await self._rows(WIND_UP, {"milliseconds": milliseconds})
            if began != self._began:
                raise ended_before()
            # A settle also accepts a token that has settled before, but that was not in this transaction.
            if not await self._rows(FENCE, {"id": settlement.id, "token": settlement.token}):
                return None
            if report is not None:
                await self._rows(reporting.REPORT, reporting.values_of([report], now=self._now))
            [(_, state)] = await self._rows(settling.SETTLE, settling.values_of([settlement], now=self._now))
        async with self._deadline():
            await self._own.execute("COMMIT")
        return Settled(id=settlement.id, state=STATES[state])

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

    # closing

    async def _close(self) -> None:
        """Roll back all that is not committed, and close the session, even if a statement is still under way."""
        self.connection.guard.shut()
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._cancel.stop_use()
            if self._own.pgconn.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
                with suppress(psycopg.Error, BackendUnavailableError):
                    async with self._deadline():
                        await self._own.execute("ROLLBACK")
        finally:
            self._own.pgconn.finish()
