"""Joining: an insert of ours becomes a part of the transaction that an application has open on its own connection."""

from deeper_tasks.backends.postgres.joining.insert import insert_joining

__all__ = ["insert_joining"]
