"""The transactor: begins the transactions of jobs, as many side by side as there are running jobs that want one."""

from __future__ import annotations

from datetime import timedelta
from weakref import WeakSet

from deeper_tasks.backends.postgres import job_transaction
from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.backends.postgres.connections import abandon
from deeper_tasks.backends.postgres.job_transaction import PostgresJobTransaction
from deeper_tasks.forks import process_watch


class Transactor:
    """
    Knows the transactions of a store that are open.

    Each has a connection of its own, none of the store's: handlers that take
    their time would keep claims and heartbeats from having one.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._begun: WeakSet[PostgresJobTransaction] = WeakSet()
        process_watch.add(self)

    async def begin(self, *, is_async: bool, limit: timedelta | None, now: str | None) -> PostgresJobTransaction:
        """Begin one; see `Transacting.begin`."""
        transaction = await job_transaction.begin(self._address, is_async=is_async, limit=limit, now=now)
        self._begun.add(transaction)
        return transaction

    def close(self) -> None:
        """Break off those that are still open; the server rolls them back."""
        for transaction in list(self._begun):
            if not transaction.is_over:
                transaction.cut()

    def forget_parent(self) -> None:
        """In the child of a fork: its parent's sessions go on, and must hear nothing from here."""
        for transaction in list(self._begun):
            abandon(transaction.connection)
        self._begun = WeakSet()
