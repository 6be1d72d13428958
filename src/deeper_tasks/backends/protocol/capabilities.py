"""Capabilities: what a store can do, asked before it is asked to do it."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from msgspec import Struct

from deeper_tasks.domain.id_forms import UUIDS, IdForm

MAX_BATCH = 500
"""
The usual number of jobs that one call of `claim`, `settle`, `promote`, `rescue`, `expire`, `prune`,
`cancel`, `retry` or `delete` changes at most: a batch is one short transaction. See `Capabilities.max_batch`.
"""


class Role(StrEnum):
    """A role that a store may lack, for example because it shares the tables of another system."""

    SCHEDULES = "schedules"
    """Without it the manager refuses recurring tasks, and workers fire none."""
    PROGRESS = "progress"
    """
    Without it workers report no start, progress and log lines of running attempts.

    Such a store counts each job as started when it hands it out.
    """


class Capabilities(Struct, frozen=True, kw_only=True):
    """The abilities of a store. A request beyond them is refused with `UnsupportedError`."""

    is_durable: bool
    is_shared: bool
    """Whether other processes see the same jobs."""
    runs_jobs: bool = True
    """False for a store that accepts everything and runs nothing."""
    max_atomic_insert: int = 10_000
    has_transactions: bool = False
    """Whether a job can be inserted inside the caller's own transaction, by `connection`."""
    has_job_transactions: bool = False
    """Whether a handler can run inside the transaction that completes its job: then it is `Transacting`."""
    longest_job_transaction: timedelta | None = None
    """
    The time after which the store rolls a job's transaction back, because all its other writes wait for its end.

    None: no other write waits, and it may take as long as its job.
    """
    has_hints: bool = True
    """Whether `listen` hears of changes. Without, workers find new jobs when they poll."""
    roles: frozenset[Role] = frozenset(Role)
    """The roles that the store has, of those that a store may lack."""
    makes_ids: bool = False
    """
    Whether the store makes the ids of its jobs by itself. Then `task_id=` is refused at an enqueue.

    Without, a request's id becomes the job's.
    """
    ids: IdForm = UUIDS
    """The form of its job ids: how people give them. A store that makes its own ids names another form here."""
    can_repeat_insert: bool = True
    """
    Whether an insert that is sent again makes no second job.

    A store that makes its own ids must know a request for 24 hours to say so. Without, an enqueue is sent once.
    """
    max_batch: int = MAX_BATCH
    """The number of jobs that one call changes at most, and that a page of a list has at most."""
