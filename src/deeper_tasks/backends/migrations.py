"""Migrations: the numbered steps of a store's schema, each a file of statements in its package."""

from __future__ import annotations

from collections.abc import Collection
from importlib.resources import files

from msgspec import Struct

from deeper_tasks.errors import BackendUnavailableError, SchemaError


class Migration(Struct, frozen=True, kw_only=True):
    """One step of the schema: its statements, and its name, which gives the order."""

    name: str
    sql: str


class SchemaLostError(BackendUnavailableError, SchemaError):
    """
    The error that the schema, or a part of it, no longer exists. Nothing was written.

    The next try may find it again, after the store was migrated or restored.
    """


def migrations_of(package: str) -> list[Migration]:
    """Return the migrations in the folder `migrations` of a store's package, in order."""
    folder = files(package).joinpath("migrations")
    steps = [
        Migration(name=file.name.removesuffix(".sql"), sql=file.read_text("utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(steps, key=lambda step: step.name)


def lacking(known: Collection[Migration], *, applied: Collection[str], store: str) -> list[Migration]:
    """
    Return the known migrations that are not applied, in order. `store` names the store in the message.

    Raises:
        SchemaError: migrations were applied that this version does not know.
    """
    if unknown := set(applied) - {step.name for step in known}:
        names = ", ".join(sorted(unknown))
        raise SchemaError(f"{store} has the migrations {names}, which this version does not know; upgrade it")
    return [step for step in known if step.name not in applied]
