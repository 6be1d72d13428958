"""A job: one enqueued run of a task, in the shapes it has before, during and after its run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.end_of_time import END_OF_TIME, later
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.domain.view import View

Json = str
"""A JSON document as text. Stores keep it as it is and never look inside."""

LOWEST_PRIORITY, NORMAL_PRIORITY, HIGHEST_PRIORITY = 100, 0, -100
"""Lower runs first."""


class JobOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The details that only the worker and the reader of a job look at; stores keep them as one document.

    `path` is where the task's function stood at the enqueue, `module.qualname`; None where that is the task's name.
    """

    retry_delay: timedelta | None = None
    max_retry_delay: timedelta | None = None
    timeout: timedelta | None = None
    tags: tuple[str, ...] = ()
    meta: dict[str, Any] = {}
    path: str | None = None


class JobSpec(Struct, frozen=True, kw_only=True):
    """What is to be run and how: all of a job that is known before it has an id and a time."""

    task: str
    arguments: Json
    queue: str
    priority: int = NORMAL_PRIORITY
    max_attempts: int = 5
    expires_in: timedelta | None = None
    options: JobOptions = JobOptions()


class NewJob(Struct, frozen=True, kw_only=True):
    """
    A job to insert.

    It is due at `due`, or `delay` after the insert by the store's clock. A time
    that has passed counts as now, one after the end of time as that. `expires_in`
    of the spec counts from then.
    """

    id: JobId
    spec: JobSpec
    due: datetime | None = None
    delay: timedelta = timedelta(0)
    unique: Unique | None = None

    def due_at(self, now: datetime) -> datetime:
        """Return when it is due, if it is inserted at `now`; never before that."""
        due = later(now, self.delay) if self.due is None else min(self.due, END_OF_TIME)
        return max(now, due)


class Insertion(Struct, frozen=True, kw_only=True):
    """
    What became of one inserted job.

    `is_new` is False when the same id was sent before, and when a unique key is
    held: then `id` is the holder's.
    """

    id: JobId
    is_new: bool


class ClaimedJob(Struct, frozen=True, kw_only=True, array_like=True):
    """
    A job in the hands of a worker. `attempt` counts this attempt already.

    `has_started` is False for a job claimed beyond the free slots, and for one in
    quarantine: it waits in the worker, and if the worker dies before it starts it,
    the store gives it back without letting that use up its last attempt, or any
    but the first.

    Of earlier attempts it tells: `unknown_since` is when a worker first gave it
    back because it did not know its task, `unfit_since` because its arguments do
    not fit the task's signature; None since its handler ran, or an operator
    retried it. `is_quarantined` says that its last handler was started and lost
    with the process it ran in, which it may have killed. `earlier_attempts` is how
    many there were when an operator retried it last.

    `damage` is what of its row cannot be read: the worker fails such a job without
    a start.
    """

    id: JobId
    token: ClaimToken
    task: str
    arguments: Json
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    inserted_at: datetime
    scheduled_at: datetime
    claimed_at: datetime
    expires_at: datetime | None
    has_started: bool
    unknown_since: datetime | None = None
    unfit_since: datetime | None = None
    is_quarantined: bool = False
    earlier_attempts: int = 0
    options: JobOptions | None = None
    damage: tuple[Damage, ...] = ()

    @property
    def attempt_since_retry(self) -> int:
        """The attempt, from 1, as the delays of its retries count it: from an operator's retry on, if there was one."""
        return self.attempt - self.earlier_attempts

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure of this attempt discards the job."""
        return self.attempt >= self.max_attempts


class ErrorReport(View, frozen=True, kw_only=True):
    """Why an attempt failed: the exception's class, its message and, where there is one, its traceback."""

    kind: str
    message: str
    traceback: str | None = None

    def kept(self, *, attempt: int, at: datetime) -> AttemptError:
        """Return it as a store keeps it, with the attempt that failed."""
        return AttemptError(attempt=attempt, at=at, kind=self.kind, message=self.message, traceback=self.traceback)


EXPIRED = ErrorReport(kind="Expired", message="not started before it expired")
"""Why a job failed that nobody started in time."""


class AttemptError(View, frozen=True, kw_only=True):
    """One failed attempt as the store keeps it, at the store's time."""

    attempt: int
    at: datetime
    kind: str
    message: str
    traceback: str | None = None


class Progress(View, frozen=True, kw_only=True):
    """How far a running job has come: `fraction` between 0 and 1, and a word about it. Another is a ValueError."""

    fraction: float
    message: str = ""

    def __post_init__(self) -> None:
        # NaN too: as JSON it would be null, which cannot be read again.
        if not 0 <= self.fraction <= 1:
            message = f"progress is a fraction from 0 to 1, not {self.fraction!r}"
            raise ValueError(message)


class Job(Struct, frozen=True, kw_only=True):
    """
    The whole record of a job, as `get` and `find` return it.

    `errors` holds the newest 100 failed attempts, oldest first. `attempted_at`
    is the start of the last attempt, None while a worker holds the job unstarted.
    `unknown_since` and `unfit_since` are since when workers give it back, and `is_quarantined`
    says that its next attempt runs in quarantine, as in `ClaimedJob`.
    `result_omitted` says why a completed job has no result. `damage` is what of
    the row cannot be read: such a field has its default or, without one, a
    stand-in (`EARLIEST` or `LATEST` for a moment, `blocked` for a state).
    `arguments` and `result` are as they are stored, readable or not.
    """

    id: JobId
    state: State
    task: str
    arguments: Json
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    inserted_at: datetime
    scheduled_at: datetime
    attempted_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    node: NodeId | None = None
    options: JobOptions = JobOptions()
    unique_key: str | None = None
    cancel_requested: str | None = None
    errors: tuple[AttemptError, ...] = ()
    progress: Progress | None = None
    log: tuple[str, ...] = ()
    result: Json | None = None
    result_omitted: str | None = None
    unknown_since: datetime | None = None
    unfit_since: datetime | None = None
    is_quarantined: bool = False
    damage: tuple[Damage, ...] = ()


MAX_KEPT_ERRORS = 100
MAX_KEPT_LOG_LINES = 200
