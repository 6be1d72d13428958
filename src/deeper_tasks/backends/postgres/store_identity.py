"""The store's identity: the id of the store that a backend has open, read again when another store takes its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import psycopg

from deeper_tasks.backends.postgres import schema
from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.connecting import connect_blocking
from deeper_tasks.backends.postgres.database import Database
from deeper_tasks.backends.postgres.refusals import OtherStoreError
from deeper_tasks.errors import BackendError, BackendUnavailableError

T = TypeVar("T")


class StoreIdentity:
    """
    The id of the open store.

    A schema may be dropped and made again under a running application; then the id in it is another one. `on_change`
    is called for each new id.
    """

    def __init__(self, database: Database, *, on_change: Callable[[], None]) -> None:
        self._database = database
        self._on_change = on_change
        self._id: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether the store is open."""
        return self._id is not None

    @property
    def id(self) -> str:
        """
        The id.

        Raises:
            BackendUnavailableError: the store is not open.
        """
        if self._id is None:
            raise BackendUnavailableError("the store is not open; use 'async with manager:' or 'await manager.open()'")
        return self._id

    async def read(self) -> bool:
        """Read the id of the store that is there, and use it from now on; return whether it is another than before."""
        return self._use(await self._database.call(schema.SELECT_STORE, {}))

    async def read_without_waiting(self) -> bool:
        """
        Do the same without waiting for a lock; return False if the store cannot be read.

        The caller's own transaction may be the one that drops the store, and holds the lock.
        """
        try:
            return self._use(await self._database.run(schema.look_at_store))
        except BackendError:
            return False

    def read_blocking(self) -> bool:
        """
        Do the same for a caller that cannot await: the insert through a blocking connection never suspends.

        It uses a connection of its own, as those of the store belong to event loops.
        """
        try:
            with connect_blocking(self._database.address) as connection:
                return self._use(schema.look_at_store_blocking(connection, self._database.address))
        except (psycopg.Error, BackendError):
            return False

    def forget(self) -> None:
        """Close: there is no id any more."""
        self._id = None

    async def run(self, operation: Callable[[str], Awaitable[T]]) -> T:
        """Run an operation that takes the id; run it once more if another store has taken the place of this one."""
        try:
            return await operation(self.id)
        except OtherStoreError:
            await self.read()
            return await operation(self.id)

    def _use(self, rows: Sequence[Row]) -> bool:
        before = self._id
        self._id = schema.one_store(rows, self._database.address)
        if self._id == before:
            return False
        self._on_change()
        return True
