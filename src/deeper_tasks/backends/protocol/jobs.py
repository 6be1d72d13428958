"""Jobs: the role of taking jobs in, and of showing one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Insertion, Job, NewJob


class Jobs(Protocol):
    """A store that keeps jobs."""

    async def insert(
        self,
        jobs: Sequence[NewJob],
        *,
        atomic: bool = True,
        connection: object | None = None,
        now: datetime | None = None,
    ) -> list[Insertion]:
        """
        Insert jobs; the answers are in the order of `jobs`.

        A job that is due becomes `pending`, another `scheduled`. A request that
        was made already with the same task and arguments gives the existing job;
        so does, with the holder's id, a unique key that is held. A store that makes its own ids
        knows a request for 24 hours at least, or says that it `can_repeat_insert` no request.

        With `connection`, a caller's own to the same store, all of this happens
        inside its open transaction: jobs and unique keys are there if and only
        if that commits. An insert that raises leaves the transaction as it was.
        With a connection that blocks, the call does its work in the caller's
        thread and never suspends; it needs no event loop.

        Raises:
            DuplicateJobError: a request, its `request_id`, was made already with another task or other arguments;
                nothing was inserted.
            UnsupportedError: more jobs than `Capabilities.max_atomic_insert`, and `atomic`; or a
                `connection`, and the store runs jobs but has no transactions.
            InvalidOptionError: `connection` is of the wrong kind, to another store, of another
                thread, closed, read-only, or without an open transaction.
            BackendUnavailableError: carries the `request_ids`; send the same jobs again. Without
                `atomic` some of the batches may be in already.
        """

    async def get(self, job_id: JobId) -> Job | None:
        """Return a job, or None."""
