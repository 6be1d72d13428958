"""Migrations: the numbered steps of a store's schema, each a file of statements in its package."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

from msgspec import Struct

from deeper_tasks.errors import BackendUnavailableError, SchemaError


class Migration(Struct, frozen=True, kw_only=True):
    """One step of the schema: its statements, and its name, which gives the order."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """A short form of the statements, which is recorded with the name."""
        return sha256(self.sql.encode()).hexdigest()[:16]


class OtherVersionError(SchemaError):
    """The error of a schema that another development version made: no migration leads from it to this version."""


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


def checksums(rows: Iterable[Sequence[Any]]) -> dict[str, str]:
    """
    Return the checksums of the applied migrations by name, from rows of a ledger: name, moment and checksum.

    A ledger that an early development version made has no checksums; then each is an empty text.
    """
    return {name: (rest[0] if rest else None) or "" for name, _, *rest in map(tuple, rows)}


def lacking(known: Collection[Migration], *, applied: Mapping[str, str], store: str) -> list[Migration]:
    """
    Return the known migrations that are not applied, in order. `store` names the store in the message.

    `applied` are the checksums of the applied ones, by name.

    Raises:
        OtherVersionError: a migration was applied with other statements.
        SchemaError: migrations were applied that this version does not know.
    """
    if any(applied.get(step.name, step.checksum) != step.checksum for step in known):
        raise OtherVersionError(
            f"{store} was made by another development version of deeper_tasks: use a new file or schema, or let the "
            "version that made it finish its jobs first"
        )
    if unknown := set(applied) - {step.name for step in known}:
        names = ", ".join(sorted(unknown))
        raise SchemaError(f"{store} has the migrations {names}, which this version does not know; upgrade it")
    return [step for step in known if step.name not in applied]
