"""The SQLite store: durable, without a server, for the processes of one machine."""

from deeper_tasks.backends.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
