"""The readiness of a store: its threads run, and the schema of this code is in its file."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from functools import partial

from deeper_tasks.backends.migrations import Migration
from deeper_tasks.backends.sqlite import schema
from deeper_tasks.backends.sqlite.database import Database
from deeper_tasks.backends.sqlite.driver_errors import translate
from deeper_tasks.backends.sqlite.obstacles import can_write
from deeper_tasks.backends.sqlite.store_threads import StoreThreads
from deeper_tasks.errors import BackendUnavailableError


class Readiness:
    """Makes a store ready once, by starting its threads and, in an empty file, making the schema."""

    def __init__(self, database: Database, threads: StoreThreads) -> None:
        self._database = database
        self._threads = threads
        self._is_ready = False
        self._has_made_inside = False

    async def open(self, *, create: bool, will_join: bool) -> bool:
        """See `Lifecycle.open`."""
        if not create and not self._database.is_there():
            self._database.check_folder()
            raise BackendUnavailableError(f"there is no database {str(self._database.path)!r}; an enqueue creates it")
        self._threads.start_once()
        if self._is_ready or will_join:
            return False
        # Of several first users each asks, so that none reads before the schema is there.
        try:
            is_new = not await self._looks_ready(is_to_write=create) and await self._threads.write(
                partial(schema.make_ready, create=create)
            )
        except BaseException:
            await self.close()
            raise
        self._is_ready = True
        return is_new

    async def close(self) -> None:
        """End the threads; the next `open` looks at the schema again."""
        self._is_ready = False
        await self._threads.close()

    def ensure_inside(self, cursor: sqlite3.Cursor) -> None:
        """
        Make the schema in the caller's transaction, unless it is known to be there.

        The writing thread would wait for the end of that transaction.
        """
        if not self._is_ready:
            self._has_made_inside |= schema.make_ready(cursor, create=True)
            # A schema that a caller's transaction has made here may be rolled back with it.
            self._is_ready = not self._has_made_inside

    async def migrate(self) -> tuple[str, ...]:
        """See `Lifecycle.migrate`. Threads that were started for it are ended."""
        if self._threads.are_open:
            return await self._threads.write(schema.migrate)
        self._threads.start_once()
        try:
            return await self._threads.write(schema.migrate)
        finally:
            await self.close()

    async def migration_script(self, *, is_whole: bool) -> str:
        """See `Scripting.migration_script`."""
        if is_whole or self._database.identify() is None:
            return schema.script(schema.known_migrations())
        return schema.script(await asyncio.to_thread(self._missing))

    async def _looks_ready(self, *, is_to_write: bool) -> bool:
        """
        Whether there is nothing to prepare, as far as a read can tell.

        A caller with an open transaction blocks every writer, so a check that writes would block too.

        Raises:
            SchemaError: the schema is older than this code, or newer.
            BackendUnavailableError: this user may only read, and cannot.
        """
        may_write = can_write(self._database.real)
        if is_to_write and not may_write:
            return False
        try:
            return await self._threads.read(schema.is_ready)
        except BackendUnavailableError:
            if not may_write:
                raise
            return False

    def _missing(self) -> list[Migration]:
        try:
            with closing(self._database.connect_to_read()) as connection:
                return schema.missing(connection)
        except sqlite3.Error as error:
            raise translate(error, self._database) from error
