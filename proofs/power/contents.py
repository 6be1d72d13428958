"""The contents of a store: all its rows, and a digest that stands for them."""

from __future__ import annotations

import hashlib
import sqlite3

_SELECT_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'deeper_%' ORDER BY name"
_LEDGER = "deeper_migration"


def digest(connection: sqlite3.Connection) -> str:
    """Return a digest of every row of every table; when the schema was made does not count."""
    tables = [name for (name,) in connection.execute(_SELECT_TABLES).fetchall()]
    hashed = hashlib.sha256()
    for table in tables:
        columns = "name" if table == _LEDGER else "*"
        rows = sorted(repr(tuple(row)) for row in connection.execute(f"SELECT {columns} FROM {table}"))
        hashed.update(f"{table}{rows}".encode())
    return hashed.hexdigest()[:16]
