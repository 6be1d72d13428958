"""The terms of transactions: which transactional tasks a store can run, and which writes are refused beside one."""

from __future__ import annotations

import os
from datetime import timedelta

from msgspec import Struct

from deeper_tasks.backends.protocol import Backend, Located
from deeper_tasks.config import Settings
from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import InvalidOptionError, TransactionError, UnsupportedError
from deeper_tasks.manager.jobs import AnyTask
from deeper_tasks.tasks import JobRequest, open_transaction
from deeper_tasks.worker.execution.transactions import longest_transaction


class TransactionTerms(Struct, frozen=True, kw_only=True):
    """The terms for the transactional tasks of one manager. `store` is the name of its store in messages."""

    store: str
    is_possible: bool
    longest: timedelta | None

    def check(self, task: AnyTask, request: JobRequest) -> None:
        """
        Refuse a transactional task, or a call of it, that no worker of this manager could run.

        Raises:
            UnsupportedError: the store has no transactions for jobs.
            InvalidOptionError: the timeout is longer than the transaction may be.
        """
        if not task.is_transactional:
            return
        if not self.is_possible:
            raise UnsupportedError(
                f"the task {task.name!r} is transactional, and the store {self.store!r} has no transactions for jobs: "
                "use one that has, such as sqlite:///tasks.db or postgresql://, or leave transactional=True out"
            )
        if self.longest is None:
            return
        if request.timeout is None or (isinstance(request.timeout, timedelta) and request.timeout > self.longest):
            asked = None if request.timeout is None else f"{request.timeout.total_seconds():.10g}"
            raise InvalidOptionError(
                f"option 'timeout_seconds' cannot be {asked} for {task.name!r}: all other writers of {self.store!r} "
                f"wait for a transactional task, which may take {readable(self.longest)} (a quarter of "
                "lease_seconds, and half the timeout of the store's URL); give at most that, or leave it out"
            )


def terms_of(backend: Backend, settings: Settings, *, store: str) -> TransactionTerms:
    """Return the terms of a store. A store that runs nothing refuses nothing."""
    capabilities = backend.capabilities
    return TransactionTerms(
        store=store,
        is_possible=capabilities.has_job_transactions or not capabilities.runs_jobs,
        longest=longest_transaction(capabilities, lease=timedelta(seconds=settings.lease_seconds)),
    )


def refuse_blocked_write(backend: Backend) -> None:
    """
    Refuse a write from inside a job with an open transaction, for which the write would have to wait.

    Raises:
        TransactionError: the calling job holds a transaction on this store's file, and all its other writers wait.
    """
    transaction = open_transaction()
    if transaction is None or transaction.blocked_file is None or not isinstance(backend, Located):
        return
    if os.path.realpath(backend.location) == transaction.blocked_file:
        raise TransactionError(
            f"this call writes to {backend.location!r} outside of the job's own transaction, and would wait for its "
            "end: enqueue with the manager that runs the task, and make other changes in another task, or after this "
            "one"
        )
