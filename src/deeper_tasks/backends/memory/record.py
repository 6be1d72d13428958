"""A record: all that the memory store knows about one job, and the shapes in which the protocol returns it."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from deeper_tasks.domain.end_of_time import later
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
from deeper_tasks.domain.transitions import Change, max_attempts_after_retry
from deeper_tasks.domain.unique import Unique


class Record(Struct, kw_only=True, eq=False):
    """
    A job as it is now. Only the `JobTable` changes its state, queue and times, for it files the record by them.

    `token` stays after a settlement, and `led_to` with it, so that the same settlement is recognized again.
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
        """Return whether it is too late to start this job."""
        return self.expires_at is not None and self.expires_at <= now

    def give_to(self, node: NodeId, *, token: ClaimToken, has_started: bool, now: datetime) -> None:
        """Note the claim of a new attempt."""
        self.attempt += 1
        self.node, self.token, self.led_to, self.claimed_at = node, token, None, now
        self.attempted_at = now if has_started else None
        self.progress = None

    def change(self, change: Change, *, now: datetime, delay: timedelta, error: ErrorReport | None) -> None:
        """Write a change into the fields."""
        if error is not None and change.keeps_error:
            self.errors = (*self.errors, error.kept(attempt=self.attempt, at=now))[-MAX_KEPT_ERRORS:]
        if change.attempts_taken_back:
            self.attempt = change.attempt_after(self.attempt)
        if change.is_put_off:
            self.scheduled_at = later(now, delay)
        if change.answers_token:
            self.led_to = change.state
        if change.drops_token:
            self.token = None
        if change.clears_marks or change.mark is not None:
            self.marks = self.marks.changed(clears=change.clears_marks, mark=change.mark, now=now)
        if change.finishes:
            self.finished_at = now
        if change.starts_anew:
            self._start_anew(now)
        if change.state is not None:
            self.state = change.state

    def _start_anew(self, now: datetime) -> None:
        self.max_attempts = max_attempts_after_retry(self.attempt, self.spec.max_attempts)
        self.scheduled_at = now
        self.expires_at = self.cancel_requested = self.finished_at = None
        self.marks = self.marks.after_retry()

    def add_report(self, report: Report, *, at: datetime) -> None:
        """Keep a report of the running attempt."""
        if report.has_started and self.attempted_at is None:
            self.attempted_at = at
        if report.progress is not None:
            self.progress = report.progress
        if report.lines:
            self.log = (*self.log, *report.lines)[-MAX_KEPT_LOG_LINES:]

    def as_claimed(self) -> ClaimedJob:
        """Return the job for the worker that claimed it."""
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
        """Return the answer of a call that moved it without its worker; `attempt` is the last, if it was taken back."""
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
        """Return the answer of a call that gave it another due time."""
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
