"""The joining insert: calls the SQL function of every insert, on the caller's connection and inside a savepoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache

from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.backends.postgres.insert import PARAMETERS, Batch
from deeper_tasks.backends.postgres.joining.connection import CallersConnection
from deeper_tasks.backends.postgres.joining.kinds import recognise
from deeper_tasks.backends.postgres.joining.refusals import has_lost_a_race, translated
from deeper_tasks.domain.job import Insertion, NewJob

_MOST_TRIES = 3
"""The server notices a deadlock after its `deadlock_timeout`, for which the caller waits each time."""
_SAVEPOINT, _UNDO, _RELEASE = (
    "SAVEPOINT deeper_insert",
    "ROLLBACK TO SAVEPOINT deeper_insert",
    "RELEASE SAVEPOINT deeper_insert",
)


async def insert_joining(
    given: object, batches: Sequence[Sequence[NewJob]], *, address: Address, store: str, now: str | None
) -> list[Insertion]:
    """
    Insert jobs inside the open transaction of a caller's connection; all of the batches or none.

    If it raises, its own changes are undone and nothing else. If no transaction is open and the library begins one by
    itself, that one is rolled back when the insert fails. The hints are sent with the commit, if they are wanted and
    the server's queue has room for them.

    Raises:
        InvalidOptionError: the connection cannot be used for this, or has no transaction.
        DuplicateJobError: an id is there with another task or other arguments.
        BackendUnavailableError: another transaction was in the way, or the connection was lost.
    """
    connection = recognise(given)
    checked = [Batch(batch) for batch in batches]
    statement = _statement(address.schema, connection.placeholder)
    channel = address.channel if address.joined_hints else None
    values = [batch.values(store=store, channel=channel, now=now) for batch in checked]
    if connection.is_async:
        await _suspend_once()

    async def insert() -> list[Insertion]:
        async with _savepoint(connection):
            found = [await connection.rows(statement, each) for each in values]
        return [
            answer
            for batch, rows in zip(checked, found, strict=True)
            for answer in batch.answers((place, str(job_id)) for place, job_id in rows)
        ]

    with translated(connection, address):
        async with _transaction(connection):
            return await _repeated(connection, insert)


async def _repeated(connection: CallersConnection, insert: Callable[[], Awaitable[list[Insertion]]]) -> list[Insertion]:
    for tries_left in reversed(range(_MOST_TRIES)):
        try:
            return await insert()
        except connection.errors as error:
            if not tries_left or not has_lost_a_race(error):
                raise
    raise AssertionError


@asynccontextmanager
async def _transaction(connection: CallersConnection) -> AsyncIterator[None]:
    has_begun = connection.has_begun()
    try:
        await connection.enter()
        yield
    except BaseException:
        if not has_begun:
            with suppress(*connection.errors):
                await connection.end()
        raise


@asynccontextmanager
async def _savepoint(connection: CallersConnection) -> AsyncIterator[None]:
    await connection.run(_SAVEPOINT)
    try:
        yield
    except BaseException:
        # If this fails too, the connection is lost or the caller has to roll back; the first error says so.
        with suppress(*connection.errors):
            await connection.run(_UNDO)
            await connection.run(_RELEASE)
        raise
    await connection.run(_RELEASE)


async def _suspend_once() -> None:
    """Suspend before anything is done: a caller that cannot await fails here, before any change."""
    await asyncio.sleep(0)


@lru_cache
def _statement(schema: str, placeholder: str) -> str:
    # As casts, not `::`: SQLAlchemy would read a parameter into `:name::text`. Each is sent as text, whatever type a
    # driver would guess from the statement.
    parameters = ", ".join(
        f"CAST(CAST({placeholder.format(name=name, number=number)} AS text) AS {kind})"
        for number, (name, kind) in enumerate(PARAMETERS.items(), start=1)
    )
    return f'SELECT place, CAST(id AS uuid) FROM "{schema}".insert_jobs({parameters})'
