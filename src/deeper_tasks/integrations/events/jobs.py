"""The events of jobs."""

from __future__ import annotations

from datetime import datetime, timedelta

from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import EXPIRED, ErrorReport
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.integrations.events.event import Event


class JobEvent(Event, frozen=True, kw_only=True):
    """
    Something that happened to a job. `attempt` is 0 before its first attempt.

    The end of a job is reported by exactly one of `JobCompleted`, `JobFailed`, `JobDiscarded` and `JobCancelled`,
    whatever ended it: its worker, an expiry, the rescue from a dead worker, or a request. `JobExpired` is a
    `JobFailed`.
    """

    job_id: JobId
    task: str = ""
    queue: str = ""
    attempt: int = 0


class JobEnqueued(JobEvent, frozen=True, kw_only=True):
    """
    An enqueue was written. `is_new` is False when the job was there already.

    An enqueue inside the caller's own transaction is reported after its commit, in a thread of the manager. A job
    that was rolled back has no event.
    """

    is_new: bool = True
    scheduled_at: datetime | None = None
    delay: timedelta = timedelta(0)


class JobStarted(JobEvent, frozen=True, kw_only=True):
    """An attempt has started. `wait` is the time since the job was due."""

    wait: timedelta


class JobQuarantined(JobEvent, frozen=True, kw_only=True):
    """
    An attempt runs in quarantine, because the attempt before it was lost with its worker.

    It runs in a process of its own, or, if `is_alone`, in its worker while no other job runs there.
    """

    is_alone: bool


class JobCompleted(JobEvent, frozen=True, kw_only=True):
    """A handler returned, and that is stored."""

    ran_for: timedelta


class JobRetried(JobEvent, frozen=True, kw_only=True):
    """An attempt failed; the next attempt follows after `delay`."""

    max_attempts: int
    error: ErrorReport
    delay: timedelta
    ran_for: timedelta | None = None


class JobSnoozed(JobEvent, frozen=True, kw_only=True):
    """A handler postponed its job by `delay`."""

    delay: timedelta
    ran_for: timedelta | None = None


class JobReleased(JobEvent, frozen=True, kw_only=True):
    """
    A worker gave a job back without using an attempt.

    The log has it at DEBUG where `TaskUnknown` or `ArgumentsUnfit` has reported it.
    """

    reason: str


class JobFailed(JobEvent, frozen=True, kw_only=True):
    """A job ended by an error that no retry can mend. It is a dead letter."""

    error: ErrorReport
    ran_for: timedelta | None = None


class JobDiscarded(JobEvent, frozen=True, kw_only=True):
    """A job used up its attempts. It is a dead letter."""

    error: ErrorReport
    ran_for: timedelta | None = None


class JobCancelled(JobEvent, frozen=True, kw_only=True):
    """A job was stopped by request."""

    reason: str = ""
    ran_for: timedelta | None = None


class JobRescheduled(JobEvent, frozen=True, kw_only=True):
    """
    A waiting job was given another due time, by request. It is in `state` now.

    `pending` means that it is due now.
    """

    state: State
    scheduled_at: datetime


class JobRescued(JobEvent, frozen=True, kw_only=True):
    """
    A job was taken from the dead worker `node`, and is in `state` now. If that is an end, the event of the end follows.

    `attempt` is the attempt that was lost.
    """

    node: NodeId
    state: State


class JobExpired(JobFailed, frozen=True, kw_only=True):
    """A job failed because it was not started in time: a dead letter. Subscribers to `JobFailed` receive it too."""

    error: ErrorReport = EXPIRED


class SettlementRefused(JobEvent, frozen=True, kw_only=True):
    """The store refused the end of an attempt, because the worker does not hold the job any more."""

    end: End


class TaskUnknown(JobEvent, frozen=True, kw_only=True):
    """This worker does not know the task, and released the job for `delay`."""

    delay: timedelta


class ArgumentsUnfit(JobEvent, frozen=True, kw_only=True):
    """The arguments do not fit the task as this worker knows it, so it released the job for `delay`."""

    delay: timedelta
    reason: str


class TaskIgnoresTimeout(JobEvent, frozen=True, kw_only=True):
    """
    An attempt runs on after its timeout, cannot be ended, and keeps its slot. Reported once for each attempt.

    `place` is the line of code where it is. `lost` of the worker's `slots` are lost in this way now; the worker
    goes on with the other slots.
    """

    timeout: timedelta | None = None
    place: str = ""
    lost: int = 0
    slots: int = 0


class SlotFreed(JobEvent, frozen=True, kw_only=True):
    """An attempt ended `after` this time beyond its timeout, and its slot is free again."""

    after: timedelta
    lost: int = 0
    slots: int = 0


class ResultOmitted(JobEvent, frozen=True, kw_only=True):
    """A job completed, and its result was not stored."""

    reason: str
