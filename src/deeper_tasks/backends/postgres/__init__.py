"""The PostgreSQL store: for any number of machines, inside the transactions of the application's own data."""

from deeper_tasks.backends.postgres.address import Address, Pooler
from deeper_tasks.backends.postgres.backend import PostgresBackend

__all__ = ["Address", "Pooler", "PostgresBackend"]
