"""Transactions: the optional role of running a handler inside the transaction that completes its job."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from deeper_tasks.domain.settlement import Report, Settled, Settlement
from deeper_tasks.errors import TransactionError


class JobTransaction(Protocol):
    """
    The transaction of one attempt: the handler's writes, the job's completion and the jobs it enqueues, or nothing.

    Attributes:
        connection: the connection that the handler writes and enqueues through. It cannot end the transaction.
        is_over: whether the end has begun: from then on nothing can be done in it.
        blocked_file: the absolute path of the database file whose other writers wait for its end, links resolved;
            None where no other writer waits.
        broken: why the store has rolled it back by itself, or lost it; None if it has not.
        spoiled: the error that says that the handler ended the transaction itself, so that another attempt might
            repeat work that is committed; None if it has not, as far as is known.
    """

    connection: Any
    is_over: bool
    blocked_file: str | None

    @property
    def broken(self) -> Exception | None:
        """See above."""

    @property
    def spoiled(self) -> TransactionError | None:
        """See above."""

    async def complete(self, settlement: Settlement, *, report: Report | None = None) -> Settled | None:
        """
        Complete the job, with its last news, and commit all; None: refused, and all is rolled back.

        It is refused when the token does not hold any more. The completion is
        the last statement before the commit. Whatever this raises, the transaction is over:

        Raises:
            BackendUnavailableError: the outcome is unknown. Another settlement with the same token finds it out, by
                the state that it is answered with, if it is answered: it changes nothing if this one was committed.
            TransactionError: it was over already, or the handler ended the transaction itself. Nothing was settled.
            BackendError: the commit was refused, by a constraint for example. All was rolled back.
        """

    async def rollback(self) -> None:
        """Roll all back, and return when no other call waits for it any more; if it is over, nothing happens."""

    def interrupt(self) -> None:
        """Break off the statement that runs in it, if one does. Safe to call from any thread."""


@runtime_checkable
class Transacting(Protocol):
    """A store that can run a handler inside a job's transaction, if it says `has_job_transactions`."""

    async def begin(
        self, *, is_async: bool, limit: timedelta | None = None, now: datetime | None = None
    ) -> JobTransaction:
        """
        Begin the transaction of an attempt, when it is its turn; cancelled meanwhile, it begins none.

        `is_async`: the handler runs on this event loop, and otherwise in a
        thread; the connection is of the kind that suits. After `limit`, or
        `longest_job_transaction` if that is less, the store rolls it back by itself,
        whatever the handler does. `now` is when its end is, for tests.

        Jobs are enqueued in it by `insert` with its connection.

        Raises:
            BackendUnavailableError: there is none; nothing happened.
        """
