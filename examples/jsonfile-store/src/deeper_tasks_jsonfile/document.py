"""The document: all that the store knows, in the shape in which it is written to the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from deeper_tasks.backends.buckets import bucket_of
from deeper_tasks.backends.protocol import JobFilter, NodeRecord, QueueSettings
from deeper_tasks.domain.end_of_time import later
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import MAX_KEPT_ERRORS, ErrorReport, Job
from deeper_tasks.domain.marks import NO_MARKS, Marks
from deeper_tasks.domain.schedule import Schedule, ScheduleEntry
from deeper_tasks.domain.schedule_run import ScheduleRun
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique, outlives_deletion

VERSION = 1


class Record(Struct, kw_only=True, omit_defaults=True):
    """
    A job as everybody may see it, and what the store alone knows of it.

    `token` is that of the last claim. It stays when the attempt is settled, and
    `led_to` with it, so that the same settlement is known when it is sent again.
    """

    job: Job
    original_max_attempts: int
    unique: Unique | None = None
    token: ClaimToken | None = None
    claimed_at: datetime | None = None
    led_to: State | None = None
    marks: Marks = NO_MARKS

    def change(self, **fields: Any) -> None:
        """Change what everybody may see. A state is changed by `Document.move` only."""
        self.job = replace(self.job, **fields)

    def mark(self, marks: Marks) -> None:
        """Set the marks for the attempts to come. They hold no secret."""
        self.marks = marks
        self.change(
            unknown_since=marks.unknown_since, unfit_since=marks.unfit_since, is_quarantined=marks.is_quarantined
        )

    def add_error(self, error: ErrorReport, *, now: datetime) -> None:
        """Append why the attempt failed."""
        kept = error.kept(attempt=self.job.attempt, at=now)
        self.change(errors=(*self.job.errors, kept)[-MAX_KEPT_ERRORS:])

    def is_meant(self, target: JobFilter) -> bool:
        """Whether a filter means this job, but for its ids."""
        job = self.job
        has_begun = job.attempted_at is not None
        return target.matches(state=job.state, queue=job.queue, task=job.task, options=job.options, has_begun=has_begun)


class Hold(Struct, omit_defaults=True):
    """A job's hold on a unique key: until a moment or, with None, until the job ends or is deleted."""

    job: JobId
    until: datetime | None = None


class Document(Struct, kw_only=True, omit_defaults=True):
    """
    Everything. `ended` counts the ends of each ten minutes by queue and state.

    To find something is to look at all there is: this is a store to be read.
    """

    version: int
    jobs: dict[JobId, Record] = {}
    keys: dict[str, Hold] = {}
    nodes: dict[NodeId, NodeRecord] = {}
    tasks: dict[NodeId, frozenset[str]] = {}
    queues: dict[str, QueueSettings] = {}
    entries: dict[str, ScheduleEntry] = {}
    removed: dict[str, Schedule] = {}
    runs: dict[str, list[ScheduleRun]] = {}
    ended: dict[int, dict[str, dict[State, int]]] = {}

    def meant(self, target: JobFilter) -> Iterator[Record]:
        """Yield the records that a filter means; those named by id in that order, without a repeat."""
        records: Iterable[Record] = self.jobs.values()
        if target.ids is not None:
            records = [self.jobs[job_id] for job_id in dict.fromkeys(target.ids) if job_id in self.jobs]
        return (record for record in records if record.is_meant(target))

    def held_by(self, node: NodeId) -> list[Record]:
        """Return what a node runs. Only a running job has a node."""
        return [record for record in self.jobs.values() if record.job.node == node]

    def is_paused(self, queue: str) -> bool:
        """Whether no job of a queue may be claimed."""
        return queue in self.queues and self.queues[queue].paused_at is not None

    def move(self, record: Record, state: State, *, now: datetime, **fields: Any) -> None:
        """
        Put a job into a state, the one place where that happens.

        An end is stamped and counted and lets go of the unique key; whatever
        is not running has no node.
        """
        record.change(state=state, finished_at=now if state.is_terminal else None, **fields)
        if state is not State.RUNNING:
            record.change(node=None)
        if state.is_terminal:
            counts = self.ended.setdefault(bucket_of(now), {}).setdefault(record.job.queue, {})
            counts[state] = counts.get(state, 0) + 1
            self.release_key(record)

    def remove(self, record: Record) -> None:
        """Forget a job, and let go of its unique key, unless that outlives it."""
        job, unique = record.job, record.unique
        del self.jobs[job.id]
        hold = None if unique is None else self.keys.get(unique.key)
        if unique is not None and hold is not None and hold.job == job.id and not outlives_deletion(job.state):
            del self.keys[unique.key]

    # unique keys: apart from the jobs, so that no change of a job's state can fail because of one

    def take_key(self, unique: Unique, job: JobId, *, now: datetime) -> JobId:
        """Return the job that holds a key: this one, if it was free."""
        hold = self.keys.get(unique.key)
        if hold is None or (hold.until is not None and hold.until <= now):
            hold = Hold(job, None if unique.period is None else later(now, unique.period))
            self.keys[unique.key] = hold
        return hold.job

    def release_key(self, record: Record) -> None:
        """Let go of a key that was held until the job's end, if this job is its holder."""
        if record.unique is not None and self.keys.get(record.unique.key) == Hold(record.job.id):
            del self.keys[record.unique.key]
