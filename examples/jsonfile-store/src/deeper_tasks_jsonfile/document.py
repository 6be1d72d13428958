"""The document: all that the store knows, in the shape in which it is written to the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from deeper_tasks.backends.buckets import bucket_of
from deeper_tasks.backends.protocol import JobFilter, NodeRecord, QueueSettings
from deeper_tasks.domain.end_of_time import later
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId, RequestId
from deeper_tasks.domain.job import MAX_KEPT_ERRORS, ErrorReport, Job
from deeper_tasks.domain.marks import NO_MARKS, Marks
from deeper_tasks.domain.schedule import Schedule, ScheduleEntry
from deeper_tasks.domain.schedule_run import ScheduleRun
from deeper_tasks.domain.state import State
from deeper_tasks.domain.transitions import Change, max_attempts_after_retry
from deeper_tasks.domain.unique import Unique

VERSION = 1
NO_JOB = JobId("")
"""The id of no job."""
REQUESTS_KEPT = timedelta(hours=24)
_NO_DELAY = timedelta(0)


def number(job_id: JobId) -> int:
    """Return the number of a job: jobs are in the order of their numbers, and not of the texts."""
    return int(job_id)


class Record(Struct, kw_only=True, omit_defaults=True):
    """
    A job as the protocol shows it, and the fields that only the store reads.

    `token` is that of the last claim. It stays when the attempt is settled, and `led_to` with it, so that the same
    settlement is recognized when it is sent again.
    """

    job: Job
    original_max_attempts: int
    unique: Unique | None = None
    token: ClaimToken | None = None
    claimed_at: datetime | None = None
    led_to: State | None = None
    marks: Marks = NO_MARKS

    def change(self, **fields: Any) -> None:
        """Set fields that the protocol shows. Only `Document.change` sets the state."""
        self.job = replace(self.job, **fields)

    def mark(self, marks: Marks) -> None:
        """Set the marks for later attempts."""
        self.marks = marks
        self.change(
            unknown_since=marks.unknown_since, unfit_since=marks.unfit_since, is_quarantined=marks.is_quarantined
        )

    def write(self, change: Change, *, now: datetime, delay: timedelta, error: ErrorReport | None) -> None:
        """Write a change into the fields. `delay` and `error` are those of the act."""
        job, state = self.job, change.state
        if error is not None and change.keeps_error:
            self.change(errors=(*job.errors, error.kept(attempt=job.attempt, at=now))[-MAX_KEPT_ERRORS:])
        if change.is_put_off:
            self.change(scheduled_at=later(now, delay))
        if change.answers_token:
            self.led_to = state
        if change.drops_token:
            self.token = None
        self.change(
            state=state,
            attempt=change.attempt_after(job.attempt),
            finished_at=now if change.finishes else None,
            node=job.node if state is State.RUNNING else None,
        )
        self.mark(self.marks.changed(clears=change.clears_marks, mark=change.mark, now=now))
        if change.starts_anew:
            most = max_attempts_after_retry(job.attempt, self.original_max_attempts)
            self.change(max_attempts=most, scheduled_at=now, expires_at=None, cancel_requested=None)
            self.mark(self.marks.after_retry())

    def matches(self, target: JobFilter) -> bool:
        """Return whether a filter matches this job, apart from its ids."""
        job = self.job
        has_begun = job.attempted_at is not None
        return target.matches(state=job.state, queue=job.queue, task=job.task, options=job.options, has_begun=has_begun)


class Hold(Struct, omit_defaults=True):
    """A job's hold on a unique key: until a moment or, with None, until the job ends or is deleted."""

    job: JobId
    until: datetime | None = None


class Request(Struct):
    """A request that was made, and the job that it made."""

    job: JobId
    made_at: datetime


class Document(Struct, kw_only=True, omit_defaults=True):
    """
    Everything. `ended` counts the ends of each ten minutes by queue and state.

    The jobs are numbered: `last_number` is the number of the newest. `requests` has the requests of the last 24 hours.

    To find something is to look at all there is: this is a store to be read.
    """

    version: int
    last_number: int = 0
    jobs: dict[JobId, Record] = {}
    requests: dict[RequestId, Request] = {}
    keys: dict[str, Hold] = {}
    nodes: dict[NodeId, NodeRecord] = {}
    tasks: dict[NodeId, frozenset[str]] = {}
    queues: dict[str, QueueSettings] = {}
    entries: dict[str, ScheduleEntry] = {}
    removed: dict[str, Schedule] = {}
    runs: dict[str, list[ScheduleRun]] = {}
    ended: dict[int, dict[str, dict[State, int]]] = {}

    def matching(self, target: JobFilter) -> Iterator[Record]:
        """Yield the records that match a filter, each once; those that it names by id come in its order."""
        records: Iterable[Record] = self.jobs.values()
        if target.ids is not None:
            records = [self.jobs[job_id] for job_id in dict.fromkeys(target.ids) if job_id in self.jobs]
        return (record for record in records if record.matches(target))

    def made_by(self, request: RequestId) -> JobId | None:
        """Return the job that a request made, or None; it may be deleted."""
        known = self.requests.get(request)
        return None if known is None else known.job

    def next_id(self) -> JobId:
        """Return the id of the next new job. The number of a deleted job is never used again."""
        return JobId(str(self.last_number + 1))

    def held_by(self, node: NodeId) -> list[Record]:
        """Return the jobs that a node runs. Only a running job has a node."""
        return [record for record in self.jobs.values() if record.job.node == node]

    def is_paused(self, queue: str) -> bool:
        """Return whether no job of a queue may be claimed."""
        return queue in self.queues and self.queues[queue].paused_at is not None

    def change(
        self,
        record: Record,
        change: Change,
        *,
        now: datetime,
        delay: timedelta = _NO_DELAY,
        error: ErrorReport | None = None,
    ) -> None:
        """Change a job: the one place where a state is set. `delay` and `error` are those of the act."""
        if change.state is None:
            del self.jobs[record.job.id]
        else:
            record.write(change, now=now, delay=delay, error=error)
        if change.is_end:
            self._end(record, change, now=now)
        if change.frees_key:
            self._free_key(record)
        if change.starts_anew:
            self._take_key_again(record, now=now)

    def _end(self, record: Record, change: Change, *, now: datetime) -> None:
        """Do all that follows from the end of a job. Every end passes here, also the deletion of an unfinished job."""
        if change.finishes:
            counts = self.ended.setdefault(bucket_of(now), {}).setdefault(record.job.queue, {})
            counts[record.job.state] = counts.get(record.job.state, 0) + 1
        if change.releases_key:
            self._release_key(record)

    # unique keys: apart from the jobs, so that no change of a job's state can fail because of one

    def take_key(self, unique: Unique, job: JobId, *, now: datetime) -> JobId:
        """Return the job that holds a key: this one, if it was free."""
        hold = self.keys.get(unique.key)
        if hold is None or (hold.until is not None and hold.until <= now):
            hold = Hold(job, None if unique.period is None else later(now, unique.period))
            self.keys[unique.key] = hold
        return hold.job

    def _release_key(self, record: Record) -> None:
        """Free a key that was held until the job's end, if this job is its holder."""
        if record.unique is not None and self.keys.get(record.unique.key) == Hold(record.job.id):
            del self.keys[record.unique.key]

    def _free_key(self, record: Record) -> None:
        """Free a key, also one that is held for a period, if this job is its holder."""
        hold = None if record.unique is None else self.keys.get(record.unique.key)
        if record.unique is not None and hold is not None and hold.job == record.job.id:
            del self.keys[record.unique.key]

    def _take_key_again(self, record: Record, *, now: datetime) -> None:
        """Let a retried job hold its key until it ends, if the key is free; a hold for a period stays as it is."""
        if record.unique is None:
            return
        until_done = Unique(key=record.unique.key)
        holder = self.take_key(until_done, record.job.id, now=now)
        record.unique = until_done if holder == record.job.id else None
        record.change(unique_key=None if record.unique is None else record.unique.key)
