"""A record: all that the memory store knows about one job, and its shapes for those who ask."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import (
    MAX_KEPT_ERRORS,
    MAX_KEPT_LOG_LINES,
    AttemptError,
    ClaimedJob,
    ErrorReport,
    Job,
    JobSpec,
    Json,
    Progress,
)
from deeper_tasks.domain.marks import NO_MARKS, Marks
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.settlement import MovedJob, Report
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique


class Record(Struct, kw_only=True, eq=False):
    """
    A job as it stands. Its state, queue and times are changed by the `JobTable` only, which files it by them.

    `token` stays after the settle, and `led_to` with it, so that the same
    settlement is known again.
    """

    id: JobId
    spec: JobSpec
    inserted_at: datetime
    scheduled_at: datetime
    max_attempts: int
    state: State
    expires_at: datetime | None = None
    unique: Unique | None = None
    attempt: int = 0
    token: ClaimToken | None = None
    node: NodeId | None = None
    claimed_at: datetime | None = None
    attempted_at: datetime | None = None
    finished_at: datetime | None = None
    marks: Marks = NO_MARKS
    led_to: State | None = None
    cancel_requested: str | None = None
    errors: tuple[AttemptError, ...] = ()
    progress: Progress | None = None
    log: tuple[str, ...] = ()
    result: Json | None = None
    result_omitted: str | None = None

    def is_expired(self, now: datetime) -> bool:
        """Whether it is too late to start this job."""
        return self.expires_at is not None and self.expires_at <= now

    def add_error(self, error: ErrorReport, *, at: datetime) -> None:
        """Keep why the attempt that runs, or the last one, failed."""
        self.errors = (*self.errors, error.kept(attempt=self.attempt, at=at))[-MAX_KEPT_ERRORS:]

    def add_report(self, report: Report, *, at: datetime) -> None:
        """Keep the news of the running attempt."""
        if report.has_started and self.attempted_at is None:
            self.attempted_at = at
        if report.progress is not None:
            self.progress = report.progress
        if report.lines:
            self.log = (*self.log, *report.lines)[-MAX_KEPT_LOG_LINES:]

    def as_claimed(self) -> ClaimedJob:
        """Return what the worker that holds it is given."""
        assert self.token is not None
        assert self.claimed_at is not None
        spec = self.spec
        return ClaimedJob(
            id=self.id,
            token=self.token,
            task=spec.task,
            arguments=spec.arguments,
            queue=spec.queue,
            priority=spec.priority,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            inserted_at=self.inserted_at,
            scheduled_at=self.scheduled_at,
            claimed_at=self.claimed_at,
            expires_at=self.expires_at,
            has_started=self.attempted_at is not None,
            unknown_since=self.marks.unknown_since,
            unfit_since=self.marks.unfit_since,
            is_quarantined=self.marks.is_quarantined,
            earlier_attempts=self.max_attempts - spec.max_attempts,
            options=spec.options,
        )

    def as_moved(self, *, attempt: int | None = None, error: ErrorReport | None = None) -> MovedJob:
        """Return what is to be told of it where it was moved without its worker; `attempt` if it was taken back."""
        return MovedJob(
            id=self.id,
            state=self.state,
            task=self.spec.task,
            queue=self.spec.queue,
            attempt=self.attempt if attempt is None else attempt,
            error=error,
            cancel_reason=self.cancel_requested,
        )

    def as_rescheduled(self, *, before: State) -> Rescheduled:
        """Return what is to be told of it when it was given another due time."""
        return Rescheduled(
            id=self.id,
            task=self.spec.task,
            queue=self.spec.queue,
            attempt=self.attempt,
            before=before,
            state=self.state,
            scheduled_at=self.scheduled_at,
        )

    def as_job(self) -> Job:
        """Return the whole record."""
        spec = self.spec
        return Job(
            id=self.id,
            state=self.state,
            task=spec.task,
            arguments=spec.arguments,
            queue=spec.queue,
            priority=spec.priority,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            inserted_at=self.inserted_at,
            scheduled_at=self.scheduled_at,
            attempted_at=self.attempted_at,
            finished_at=self.finished_at,
            expires_at=self.expires_at,
            node=self.node,
            options=spec.options,
            unique_key=None if self.unique is None else self.unique.key,
            cancel_requested=self.cancel_requested,
            errors=self.errors,
            progress=self.progress,
            log=self.log,
            result=self.result,
            result_omitted=self.result_omitted,
            unknown_since=self.marks.unknown_since,
            unfit_since=self.marks.unfit_since,
            is_quarantined=self.marks.is_quarantined,
        )
