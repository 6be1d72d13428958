"""Scripting: the optional role of a store whose schema is made by statements that an administrator may run."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Scripting(Protocol):
    """A store that can show the statements of its migrations."""

    async def migration_script(self, *, is_whole: bool = False) -> str:
        """
        Return the statements that `migrate` would run, as one transaction for the store's own command-line client.

        Empty where nothing is missing. With `is_whole` all that make an empty
        store, without a look at this one. Changes and makes nothing.

        Raises:
            BackendUnavailableError, SchemaError: as `migrate` does.
        """
