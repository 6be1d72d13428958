"""The shop: the application's own database, which knows nothing of background tasks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

_SCHEMA = """
CREATE TABLE sessions (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, used_at TEXT NOT NULL);
CREATE TABLE products (id INTEGER PRIMARY KEY, price INTEGER NOT NULL, stock INTEGER NOT NULL);
"""
_SAVE_PRODUCT = """
INSERT INTO products (id, price, stock) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET price = excluded.price, stock = excluded.stock
"""
_PATIENCE_SECONDS = 30


class Product(NamedTuple):
    """A product's price, in cents, and how many are in stock."""

    price: int
    stock: int


class Shop:
    """The tables of sessions and products. Every method is a transaction; times are kept in UTC."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def create(self) -> None:
        """Make the tables."""
        with self._connection() as connection:
            connection.executescript(_SCHEMA)

    def add_sessions(self, count: int, *, last_used: datetime) -> None:
        """Add sessions, each last used a minute before the other."""
        rows = [(f"customer {n}", (last_used - timedelta(minutes=n)).isoformat()) for n in range(count)]
        with self._connection() as connection:
            connection.executemany("INSERT INTO sessions (customer, used_at) VALUES (?, ?)", rows)

    def delete_sessions(self, *, before: datetime) -> int:
        """Delete the sessions last used before a time; returns how many."""
        with self._connection() as connection:
            return connection.execute("DELETE FROM sessions WHERE used_at < ?", (before.isoformat(),)).rowcount

    def count_sessions(self, *, before: datetime | None = None) -> int:
        """Return how many sessions there are, or are left from before a time."""
        until = "9999" if before is None else before.isoformat()
        with self._connection() as connection:
            (count,) = connection.execute("SELECT count(*) FROM sessions WHERE used_at < ?", (until,)).fetchone()
            return int(count)

    def save_product(self, product_id: int, *, price: int, stock: int) -> None:
        """Insert or update a product."""
        with self._connection() as connection:
            connection.execute(_SAVE_PRODUCT, (product_id, price, stock))

    def products(self) -> dict[int, Product]:
        """Return all products by id."""
        with self._connection() as connection:
            rows = connection.execute("SELECT id, price, stock FROM products").fetchall()
        return {product_id: Product(price, stock) for product_id, price, stock in rows}

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._database, timeout=_PATIENCE_SECONDS)) as connection, connection:
            yield connection
