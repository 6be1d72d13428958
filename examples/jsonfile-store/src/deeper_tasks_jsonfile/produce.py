"""Produce: insert jobs, each request once and each unique key held by one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from deeper_tasks.domain.end_of_time import later
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Insertion, Job, NewJob
from deeper_tasks.domain.state import State
from deeper_tasks.errors import DuplicateJobError
from deeper_tasks_jsonfile.document import NO_JOB, Document, Record, Request


def insert(document: Document, jobs: Sequence[NewJob], *, now: datetime) -> list[Insertion]:
    """Insert jobs. A `DuplicateJobError` half-way is no harm: then none of it is written."""
    return [_insert(document, job, now=now) for job in jobs]


def _insert(document: Document, new: NewJob, *, now: datetime) -> Insertion:
    known = document.jobs.get(document.made_by(new.request_id) or NO_JOB)
    if known is not None:
        if (known.job.task, known.job.arguments) != (new.spec.task, new.spec.arguments):
            message = f"the request {new.request_id!r} made a job with another task or other arguments"
            raise DuplicateJobError(message, request_id=new.request_id)
        return Insertion(id=known.job.id, is_new=False)
    job_id = document.next_id()
    if new.unique is not None:
        holder: JobId = document.take_key(new.unique, job_id, now=now)
        if holder != job_id:
            return Insertion(id=holder, is_new=False)
    document.last_number += 1
    document.jobs[job_id] = _record(new, job_id, now=now)
    document.requests[new.request_id] = Request(job=job_id, made_at=now)
    return Insertion(id=job_id, is_new=True)


def _record(new: NewJob, job_id: JobId, *, now: datetime) -> Record:
    spec, due = new.spec, new.due_at(now).astimezone(UTC)
    job = Job(
        id=job_id,
        state=State.SCHEDULED if due > now else State.PENDING,
        task=spec.task,
        arguments=spec.arguments,
        queue=spec.queue,
        priority=spec.priority,
        attempt=0,
        max_attempts=spec.max_attempts,
        inserted_at=now,
        scheduled_at=due,
        expires_at=None if spec.expires_in is None else later(due, spec.expires_in),
        options=spec.options,
        unique_key=None if new.unique is None else new.unique.key,
    )
    return Record(job=job, original_max_attempts=spec.max_attempts, unique=new.unique)
