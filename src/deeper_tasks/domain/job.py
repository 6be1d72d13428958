"""A job: one enqueued run of a task, in its shapes before, during and after the run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.end_of_time import END_OF_TIME, later
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId, RequestId
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.domain.view import View

Json = str
"""A JSON document as text. Stores keep it unchanged and never read it."""

LOWEST_PRIORITY, NORMAL_PRIORITY, HIGHEST_PRIORITY = 100, 0, -100
"""Jobs of a lower number run first."""


class JobOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The details that only workers and readers of a job use; stores keep them as one document.

    `path` is the `module.qualname` of the task's function at the enqueue; None if that is the task's name.
    """

    retry_delay: timedelta | None = None
    max_retry_delay: timedelta | None = None
    timeout: timedelta | None = None
    tags: tuple[str, ...] = ()
    meta: dict[str, Any] = {}
    path: str | None = None


class JobSpec(Struct, frozen=True, kw_only=True):
    """The definition of a job: all that is known before it has an id and a due time."""

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

    `request_id` is the key of a repeat: the same request makes one job, however often it is sent. A store that makes
    no ids of its own uses it as the job's id.

    It is due at `due`, or `delay` after the insert, by the store's clock. A time that has passed counts as now, a time
    after the end of time as the end of time. `expires_in` of the spec counts from the due time.
    """

    request_id: RequestId
    spec: JobSpec
    due: datetime | None = None
    delay: timedelta = timedelta(0)
    unique: Unique | None = None

    def due_at(self, now: datetime) -> datetime:
        """Return when the job is due if it is inserted at `now`; never earlier than `now`."""
        due = later(now, self.delay) if self.due is None else min(self.due, END_OF_TIME)
        return max(now, due)


class Insertion(Struct, frozen=True, kw_only=True):
    """
    The store's answer for one inserted job.

    `is_new` is False if the same request was sent before, or if its unique key is held; then `id` is the holder's.
    """

    id: JobId
    is_new: bool


class ClaimedJob(Struct, frozen=True, kw_only=True, array_like=True):
    """
    A job that a worker has claimed. `attempt` includes this attempt.

    `has_started` is False for a job that was claimed beyond the free slots, and for a job in quarantine. Such a job
    waits in the worker. If the worker dies before the start, the attempt does not count, unless it is the first of
    several.

    Some fields are about earlier attempts. `unknown_since` is when a worker first released the job because it did not
    know the task, `unfit_since` when one released it because the arguments did not fit the task's signature; both are
    None after the handler ran, or an operator retried the job. `is_quarantined`: the last handler was started and lost
    with its process, which it may have killed. `earlier_attempts` is the number of attempts before the last manual
    retry.

    `damage` lists the fields of the row that cannot be read. The worker fails a job with damage without starting it.
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
        """The number of the attempt, from 1, for the delays of retries: counted from the last manual retry, if any."""
        return self.attempt - self.earlier_attempts

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure of this attempt discards the job."""
        return self.attempt >= self.max_attempts


class ErrorReport(View, frozen=True, kw_only=True):
    """The error of a failed attempt: the exception's class, its message and, if there is one, its traceback."""

    kind: str
    message: str
    traceback: str | None = None

    def kept(self, *, attempt: int, at: datetime) -> AttemptError:
        """Return the error as a store keeps it, with the number of the attempt."""
        return AttemptError(attempt=attempt, at=at, kind=self.kind, message=self.message, traceback=self.traceback)


EXPIRED = ErrorReport(kind="Expired", message="not started before it expired")
"""The error of a job that no worker started before it expired."""


class AttemptError(View, frozen=True, kw_only=True):
    """The error of a failed attempt as the store keeps it, with the time by the store's clock."""

    attempt: int
    at: datetime
    kind: str
    message: str
    traceback: str | None = None


class Progress(View, frozen=True, kw_only=True):
    """The progress of a running job: a fraction from 0 to 1, and a message. Any other number is a ValueError."""

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

    `errors` has the newest 100 failed attempts, oldest first. `attempted_at` is the start of the last attempt; None
    while a worker holds the job without having started it. `unknown_since`, `unfit_since` and `is_quarantined` are as
    in `ClaimedJob`. `result_omitted` says why a completed job has no result.

    `damage` lists the fields of the row that cannot be read. Such a field has its default or, without one, a stand-in:
    `EARLIEST` or `LATEST` for a moment, `blocked` for a state. `arguments` and `result` are as stored, readable or not.
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
