"""The database: runs statements within a deadline, repeats them after a deadlock, and raises this library's errors."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, cast

import psycopg
from psycopg import AsyncCursor

from deeper_tasks.backends.postgres import rights
from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.connecting import Connection, connect, cut
from deeper_tasks.backends.postgres.connections import Connections, RenewedError
from deeper_tasks.backends.postgres.moments import read_tolerantly
from deeper_tasks.backends.postgres.refusals import is_of_lost_connection, is_worth_another_try, translate
from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import AccessError, BackendUnavailableError, DeeperTasksError

T = TypeVar("T")

Values = Mapping[str, Any]

_MOST_TRIES = 10
_LONGEST_PAUSE = 0.05

# Without sorting, an order leaves the planner one choice: the index that has it. Statistics about a state are soon out
# of date, and an index that was empty when they were taken seems free.
_BEGIN = (
    "BEGIN ISOLATION LEVEL {isolation}; "
    "SET LOCAL search_path TO {schema}, pg_temp; "
    "SET LOCAL statement_timeout TO {milliseconds}; SET LOCAL idle_in_transaction_session_timeout TO {milliseconds}; "
    "SET LOCAL jit TO off; SET LOCAL max_parallel_workers_per_gather TO 0; "
    "SET LOCAL enable_seqscan TO off; SET LOCAL enable_hashjoin TO off; SET LOCAL enable_mergejoin TO off; "
    "SET LOCAL enable_sort TO off; SET LOCAL enable_bitmapscan TO off"
)


class Transaction:
    """An open transaction of the store: it runs statements with named parameters, and returns their rows."""

    def __init__(self, cursor: AsyncCursor[tuple[Any, ...]]) -> None:
        self._cursor = cursor

    async def rows(self, statement: str, values: Values | None = None) -> list[Row]:
        """Run a statement; return all its rows. A moment outside of the calendar is a `BeyondCalendar`."""
        await self._cursor.execute(statement, values)
        return await _fetched(self._cursor)

    async def row(self, statement: str, values: Values | None = None) -> Row | None:
        """Run a statement; return its first row."""
        rows = await self.rows(statement, values)
        return rows[0] if rows else None

    async def execute(self, statement: str, values: Values | None = None) -> int:
        """Run a statement; return how many rows it changed."""
        await self._cursor.execute(statement, values)
        return self._cursor.rowcount


async def _fetched(cursor: AsyncCursor[tuple[Any, ...]]) -> list[Row]:
    try:
        return cast("list[Row]", await cursor.fetchall())
    except psycopg.DataError:
        # The driver's error: the server has carried the statement out, but a row has a moment that cannot be read.
        return read_tolerantly(cursor)


Operation = Callable[[Transaction], Awaitable[T]]


class Database:
    """
    The database at an address.

    Every call ends within the address's timeout, even if the network is silent. After a deadlock or a lost race for a
    row a call is repeated within that time.

    Raises (all calls):
        BackendUnavailableError: no answer in time, or none at all.
        SchemaError: the schema is missing, or it lacks a migration.
        AccessError: the user lacks a right.
        BackendError: the server refused for another reason.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.connections = Connections(address)
        self._seconds = address.timeout.total_seconds()
        # The schema's name was checked: it needs quotes only because it may be a reserved word of SQL.
        self._schema = f'"{address.schema}"'
        self._begin = self._filled(_BEGIN, isolation="READ COMMITTED")
        self._begin_survey = self._filled(_BEGIN, isolation="REPEATABLE READ, READ ONLY")
        self._qualified: dict[str, str] = {}

    async def call(self, statement: str, values: Values, *, is_urgent: bool = False) -> list[Row]:
        """
        Run one statement by itself; return its rows, as `rows` does. `{schema}` in it stands for the schema's name.

        Urgent statements share connections: a session that has not run a function yet takes some milliseconds to
        prepare it.

        The statement must be safe to send twice: if the connection breaks, it is sent once more on a new one.
        """
        text = self._qualified.get(statement)
        if text is None:
            text = self._qualified[statement] = statement.format(schema=self._schema)

        async def run(connection: Connection) -> list[Row]:
            async with connection.cursor(binary=True) as cursor:
                await cursor.execute(text, values)
                return await _fetched(cursor)

        return await self._repeated(run, most_losses=1, is_urgent=is_urgent)

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation in a transaction of its own, in which the tables are found by their bare names."""
        return await self._run(operation, self._begin)

    async def run_at_one_moment(self, operation: Operation[T]) -> T:
        """Run an operation that only reads: all of its statements see the store as it is at one moment."""
        return await self._run(operation, self._begin_survey)

    async def _run(self, operation: Operation[T], begin: str) -> T:
        async def run(connection: Connection) -> T:
            async with connection.cursor(binary=True) as cursor:
                await connection.execute(begin)
                answer = await operation(Transaction(cursor))
                await connection.execute("COMMIT")
            return answer

        return await self._repeated(run)

    async def ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """Call a function with a connection, outside of any transaction."""
        return await self._repeated(question)

    @asynccontextmanager
    async def lend_without_deadline(self) -> AsyncIterator[Connection]:
        """
        Lend a connection for as long as the server answers: a migration may take longer than the timeout.

        Once in every timeout the server is asked on another connection. If it does not answer that within the timeout,
        the lent connection is cut.
        """
        try:
            async with self.connections.lend() as connection, self._as_long_as_it_answers(connection):
                yield connection
        except RenewedError as renewed:
            raise self._translated(renewed) from renewed.__cause__
        except psycopg.Error as error:
            raise self._translated(error) from error

    def _filled(self, begin: str, *, isolation: str) -> str:
        milliseconds = int(self._seconds * 1000)
        return begin.format(schema=self._schema, milliseconds=milliseconds, isolation=isolation)

    async def _repeated(
        self, run: Callable[[Connection], Awaitable[T]], *, most_losses: int = 0, is_urgent: bool = False
    ) -> T:
        until = asyncio.get_running_loop().time() + self._seconds
        losses_left = most_losses
        for tries_left in reversed(range(_MOST_TRIES)):
            try:
                return await self._once(run, until, is_urgent=is_urgent)
            except RenewedError as renewed:
                if not tries_left:
                    raise self._translated(renewed) from renewed.__cause__
                continue
            except psycopg.errors.InsufficientPrivilege as error:
                raise await self._with_missing_right(error) from error
            except psycopg.Error as error:
                is_lost = is_of_lost_connection(error)
                if not tries_left or not (losses_left if is_lost else is_worth_another_try(error)):
                    raise self._translated(error) from error
                losses_left -= is_lost
            await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - no secret
        raise AssertionError

    async def _once(self, run: Callable[[Connection], Awaitable[T]], until: float, *, is_urgent: bool) -> T:
        async with (
            self.connections.lend(until=until, is_urgent=is_urgent) as connection,
            self._deadline(connection, until),
        ):
            try:
                return await run(connection)
            except psycopg.Error:
                if not connection.closed and connection.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    await connection.rollback()
                raise

    @asynccontextmanager
    async def _deadline(self, connection: Connection, until: float) -> AsyncIterator[None]:
        has_passed = False

        def end() -> None:
            nonlocal has_passed
            has_passed = True
            cut(connection)

        timer = asyncio.get_running_loop().call_at(until, end)
        try:
            yield
        except psycopg.Error as error:
            if has_passed:
                raise self._unanswered() from error
            raise
        finally:
            timer.cancel()

    @asynccontextmanager
    async def _as_long_as_it_answers(self, connection: Connection) -> AsyncIterator[None]:
        async def ask_until_silent() -> None:
            await self._ask_until_silent()
            cut(connection)

        questions = asyncio.create_task(ask_until_silent())
        try:
            yield
        except psycopg.Error as error:
            if questions.done():
                raise self._unanswered() from error
            raise
        finally:
            questions.cancel()

    async def _ask_until_silent(self) -> None:
        with suppress(psycopg.Error):
            while True:
                await asyncio.sleep(self._seconds)
                asked = await connect(self.address.conninfo, address=self.address, pooler=self.address.pooler)
                await asked.close()

    async def _with_missing_right(self, error: psycopg.Error) -> DeeperTasksError:
        """Return an error that names the missing right and the statement that grants it, unlike the server's."""
        name = rights.object_of(error)
        with suppress(psycopg.Error, BackendUnavailableError):
            async with self.connections.lend() as connection:
                if missing := (await rights.read(connection, self.address.schema)).of_object(name):
                    return AccessError(f"{self.address!r} refuses: {error.diag.message_primary}; {missing}")
        return self._translated(error)

    def _translated(self, error: psycopg.Error | RenewedError) -> DeeperTasksError:
        refused = error.__cause__ if isinstance(error, RenewedError) else error
        assert isinstance(refused, psycopg.Error)
        return translate(refused, self.address)

    def _unanswered(self) -> BackendUnavailableError:
        return BackendUnavailableError(f"{self.address!r} did not answer in {readable(self._seconds)}")
