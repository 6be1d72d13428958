"""Life: open, close and migrate the store."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from deeper_tasks.backends.protocol import Scripting
from deeper_tasks.errors import (
    UnsupportedError,
)
from deeper_tasks.forks import process_watch
from deeper_tasks.manager.areas.area import Area
from deeper_tasks.manager.transactions import refuse_blocked_write


class LifeArea(Area):
    """Life: open, close and migrate the store."""

    async def open(self, *, create: bool = True) -> None:
        """
        Open the store; a second call does nothing. A missing store is made, unless `create` is False.

        While the store does not answer, the opening is tried again for the setting `enqueue_patience_seconds`, as an
        enqueue is. With `create=False` it is not tried again.

        Raises:
            BackendUnavailableError: the store cannot be reached, or is missing.
            SchemaError: the database has another schema, needs `migrate`, or is newer than this code.
        """
        process_watch.notice()
        parts = self._parts
        patience = parts.producer.patience
        if create and patience and not parts.store.is_open:
            await parts.producer.insist(parts.store.open, patience=patience)
        else:
            await parts.store.open(create=create)

    async def close(self) -> None:
        """Close the store, after the calls that are under way. The next use opens it again."""
        process_watch.notice()
        parts = self._parts
        parts.store.mark_closed()
        await parts.producer.close()
        await parts.store.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def migrate(self) -> tuple[str, ...]:
        """
        Bring the store's schema up to date; return the migrations that were applied, in order.

        Raises:
            BackendUnavailableError: the store cannot be reached; nothing has changed.
            SchemaError: the database has another schema, or is newer than this code.
        """
        refuse_blocked_write(self._parts.backend)
        return await self._parts.backend.migrate()

    async def migration_script(self, *, is_whole: bool = False) -> str:
        """
        Return the SQL statements that `migrate` would run, for a review, or for an administrator to run.

        They are one transaction, for `psql -v ON_ERROR_STOP=1` or `sqlite3 -bail`; the text is empty if nothing is
        missing. `is_whole` returns all statements that make an empty store, and does not look at this store: no server
        is needed. Nothing is changed.

        Raises:
            BackendUnavailableError: the store cannot be reached.
            SchemaError: the database has another schema, or is newer than this code.
            UnsupportedError: this store has no SQL schema.
        """
        backend, settings = self._parts.backend, self._core.settings
        if not isinstance(backend, Scripting):
            is_switched_off = not settings.enabled and not backend.capabilities.runs_jobs
            store = f"{self._parts.terms.store}{', used where enabled = false,' if is_switched_off else ''}"
            raise UnsupportedError(f"the store {store} has no SQL schema to print")
        return await backend.migration_script(is_whole=is_whole)
