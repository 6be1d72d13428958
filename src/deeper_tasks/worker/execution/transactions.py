"""Transactions: run an attempt inside the transaction that also completes its job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from deeper_tasks.backends.protocol import Backend, Capabilities, JobTransaction, Transacting
from deeper_tasks.domain.outcome import Fail
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.stop import Stop
from deeper_tasks.errors import BackendUnavailableError, TransactionError
from deeper_tasks.tasks import ExecutorKind
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.call import Call
from deeper_tasks.worker.execution.reporter import Reporter
from deeper_tasks.worker.redaction import Redaction
from deeper_tasks.worker.settling.attempt_end import AttemptEnd, PerhapsStored, Stored

_logger = logging.getLogger("deeper_tasks")

_AFTER_A_FAULT = timedelta(seconds=5)
_OF_A_LEASE = 4

Execute = Callable[[JobTransaction], Awaitable[Settlement]]
"""Runs the rest of the attempt, and returns a settlement that is not stored yet."""


def longest_transaction(capabilities: Capabilities, *, lease: timedelta) -> timedelta | None:
    """
    Return how long a job's transaction may take; None if it may take as long as its job.

    If all other writes wait for its end, heartbeats wait too, and several of
    them must still succeed within a lease.
    """
    longest = capabilities.longest_job_transaction
    return None if longest is None else min(longest, lease / _OF_A_LEASE)


class Transactions:
    """
    Begins a job's transaction, has the attempt run inside it, and completes the job in it.

    Any other end of the attempt rolls the transaction back, and is settled afterwards like all ends.
    """

    def __init__(self, *, backend: Backend, reporter: Reporter, lease: timedelta, redaction: Redaction) -> None:
        self._backend = backend
        self._redaction = redaction
        self._reporter = reporter
        self.longest = longest_transaction(backend.capabilities, lease=lease)

    async def run(self, attempt: Attempt, call: Call, execute: Execute) -> AttemptEnd:
        """Run an attempt to its end, and write its completion; every other end is left for the caller to write."""
        if not isinstance(self._backend, Transacting):
            return call.refused("UnsupportedError", "the task is transactional, and the store has no such transactions")
        try:
            transaction = await self._begin(self._backend, attempt, call)
        except BackendUnavailableError as error:
            _logger.warning(
                "job released (no transaction could be begun): %s: %s",
                call.job.id,
                error,
                extra={"job_id": call.job.id},
            )
            # If the store is away, the release is written when it is back, and the job may start at once.
            delay = _AFTER_A_FAULT if await self._answers() else timedelta(0)
            return call.released("no transaction could be begun", delay=delay)
        if transaction is None:
            return verdict.unbegun(call, attempt)
        try:
            end = await self._inside(transaction, attempt, call, execute)
            return end if isinstance(end, Stored) else _checked(end, transaction, attempt, call)
        finally:
            await transaction.rollback()
            self._reporter.go_on(call.job.id)

    async def _answers(self) -> bool:
        """Whether the store answers, although it began no transaction."""
        try:
            await self._backend.queues()
        except BackendUnavailableError:
            return False
        return True

    async def _begin(self, backend: Transacting, attempt: Attempt, call: Call) -> JobTransaction | None:
        """Wait for the transaction; None if the attempt was stopped meanwhile."""
        is_async = call.task.executor is ExecutorKind.COROUTINE
        beginning = asyncio.ensure_future(backend.begin(is_async=is_async, limit=self.longest))
        attempt.interrupt = beginning.cancel
        try:
            await asyncio.wait((beginning,))
        finally:
            attempt.interrupt = None
            beginning.cancel()
        return None if beginning.cancelled() else beginning.result()

    async def _inside(self, transaction: JobTransaction, attempt: Attempt, call: Call, execute: Execute) -> AttemptEnd:
        if self.longest is not None:
            # News could be written only after the transaction, when the job does not run any more.
            self._reporter.hold(call.job.id)
        if call.task.executor is ExecutorKind.THREAD:
            attempt.interrupt = transaction.interrupt
        settlement = await execute(transaction)
        attempt.interrupt = None
        if settlement.end is not End.COMPLETE or attempt.stop is Stop.LOST or transaction.broken is not None:
            return settlement
        return await self._complete(transaction, attempt, call, settlement)

    async def _complete(
        self, transaction: JobTransaction, attempt: Attempt, call: Call, settlement: Settlement
    ) -> AttemptEnd:
        ran_for = settlement.ran_for or timedelta(0)
        if settlement.result_omitted is not None:
            settlement = self._redaction.settlement(settlement)
        if self.longest is None:
            await self._reporter.flush(call.job.id)
        try:
            settled = await transaction.complete(settlement, report=self._reporter.take(call.job.id))
        except BackendUnavailableError as error:
            return PerhapsStored(_broken_off(attempt, call, error, ran_for))
        except TransactionError as error:
            return call.raised(Fail(str(error)), ran_for)
        except Exception as error:  # noqa: BLE001 - a constraint that is checked at the commit, for example
            return verdict.raised(call, error, ran_for, attempt)
        return Stored(settlement, None if settled is None else settled.state)


def _checked(
    end: Settlement | PerhapsStored, transaction: JobTransaction, attempt: Attempt, call: Call
) -> Settlement | PerhapsStored:
    """Return the end of an attempt that did not complete, by what became of its transaction."""
    settlement = end.settlement if isinstance(end, PerhapsStored) else end
    ran_for = settlement.ran_for or timedelta(0)
    if transaction.spoiled is not None:
        # Another attempt would do again what may be committed.
        settlement = call.raised(Fail(str(transaction.spoiled)), ran_for)
    elif transaction.broken is not None:
        settlement = _broken_off(attempt, call, transaction.broken, ran_for)
    return PerhapsStored(settlement) if isinstance(end, PerhapsStored) else settlement


def _broken_off(attempt: Attempt, call: Call, error: Exception, ran_for: timedelta) -> Settlement:
    """Return the settlement of an attempt whose transaction is lost, which its interruption may have caused."""
    return verdict.broken_off(call, error, ran_for, attempt) or call.broken_off(error, ran_for)
