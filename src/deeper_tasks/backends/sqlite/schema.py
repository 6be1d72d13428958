"""The schema: numbered migrations, applied in order and recorded in the database."""

from __future__ import annotations

import sqlite3
from functools import cache

from deeper_tasks.backends.migrations import Migration, checksums, lacking, migrations_of
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.errors import SchemaError

_CREATE_LEDGER = """
CREATE TABLE IF NOT EXISTS deeper_migration (
    name       TEXT    NOT NULL PRIMARY KEY,
    applied_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER) * 1000000),
    checksum   TEXT
) STRICT, WITHOUT ROWID
"""
_SELECT_LEDGER = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'deeper_migration'"
_SELECT_APPLIED = "SELECT * FROM deeper_migration ORDER BY name"
_INSERT_APPLIED = "INSERT INTO deeper_migration (name, checksum) VALUES (?, ?)"


def known_migrations() -> list[Migration]:
    """Return the migrations that this code carries, in order."""
    return list(_carried())


def migrate(connection: Statements) -> tuple[str, ...]:
    """Apply the missing migrations within the caller's transaction; returns their names."""
    steps = missing(connection)
    connection.execute(_CREATE_LEDGER)
    for step in steps:
        for statement in _statements(step.sql):
            connection.execute(statement)
        connection.execute(_INSERT_APPLIED, (step.name, step.checksum))
    return tuple(step.name for step in steps)


def script(steps: list[Migration]) -> str:
    """Return the statements that apply these steps, as one transaction, for a review and for `sqlite3`."""
    if not steps:
        return ""
    parts = ["BEGIN IMMEDIATE;", f"{_CREATE_LEDGER.strip()};"]
    parts += [f"-- {step.name}\n\n{step.sql.strip()}\n\n{_noted(step)}" for step in steps]
    return "\n\n".join([*parts, "COMMIT;\n"])


def is_ready(connection: Statements) -> bool:
    """
    Whether the schema is the one of this code; False: there is none.

    Raises:
        SchemaError: it is older than this code and needs `migrate`, or newer.
    """
    if not _has_ledger(connection):
        return False
    if lacking := missing(connection):
        names = ", ".join(step.name for step in lacking)
        raise SchemaError(f"{_shown(connection)} lacks the migrations {names}; run 'deeper migrate'")
    return True


def make_ready(connection: Statements, *, create: bool) -> bool:
    """
    Create the schema, if `create` allows it, in a database without it; returns whether it was created.

    Raises:
        SchemaError: there is none and `create` is False; or it is older than this code and needs `migrate`, or newer.
    """
    if is_ready(connection):
        return False
    if not create:
        raise SchemaError(
            f"{_shown(connection)} holds no jobs of deeper_tasks; an enqueue or 'deeper migrate' prepares it"
        )
    migrate(connection)
    return True


def _has_ledger(connection: Statements) -> bool:
    return connection.execute(_SELECT_LEDGER).fetchone() is not None


def missing(connection: Statements) -> list[Migration]:
    """Return the migrations that the database lacks, in order. Raises SchemaError if it is newer than this code."""
    applied = checksums(connection.execute(_SELECT_APPLIED)) if _has_ledger(connection) else {}
    return lacking(known_migrations(), applied=applied, store=_shown(connection))


@cache
def _carried() -> tuple[Migration, ...]:
    return tuple(migrations_of(__package__))


def _shown(connection: Statements) -> str:
    """Return the name of a connection's database in messages: its file."""
    file = next((file for _, name, file in connection.execute("PRAGMA database_list") if name == "main"), "")
    return f"the database {file!r}" if file else "the database in memory"


def _noted(step: Migration) -> str:
    return f"INSERT INTO deeper_migration (name, checksum) VALUES ('{step.name}', '{step.checksum}');"


def _statements(script: str) -> list[str]:
    # Not executescript: it commits first, and a migration is one transaction.
    statements, gathered = [], ""
    for line in script.splitlines(keepends=True):
        gathered += line
        if sqlite3.complete_statement(gathered):
            statements.append(gathered)
            gathered = ""
    return statements
