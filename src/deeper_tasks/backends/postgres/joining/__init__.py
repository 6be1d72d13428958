"""Joining: an insert becomes a part of the transaction that the application has open on its own connection."""

from deeper_tasks.backends.postgres.joining.insert import insert_joining
from deeper_tasks.backends.postgres.joining.kinds import is_async
from deeper_tasks.backends.postgres.joining.refusals import OtherDatabaseError

__all__ = ["OtherDatabaseError", "insert_joining", "is_async"]
