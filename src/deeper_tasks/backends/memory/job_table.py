"""The job table: all records, each filed by the next thing that happens to it, so that no step has to search."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from deeper_tasks.backends.memory.counters import Counters
from deeper_tasks.backends.memory.job_heap import JobHeap
from deeper_tasks.backends.memory.nodes import Nodes
from deeper_tasks.backends.memory.pending_jobs import PendingJobs
from deeper_tasks.backends.memory.record import Record
from deeper_tasks.backends.memory.unique_keys import UniqueKeys
from deeper_tasks.domain.end_of_time import later
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId, parse_uuid
from deeper_tasks.domain.job import ErrorReport, Insertion, JobSpec, NewJob
from deeper_tasks.domain.rescheduling import NewDue
from deeper_tasks.domain.state import AWAITS_ITS_TIME, MAY_EXPIRE, TERMINAL, State
from deeper_tasks.domain.transitions import CLAIM, Change, state_of_new
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import DuplicateJobError

_NO_DELAY = timedelta(0)
# To find a member by its class takes ten times as long, and each job needs them.
_PENDING, _RUNNING, _COMPLETED = State.PENDING, State.RUNNING, State.COMPLETED


class JobTable:
    """
    The records, with the heaps, counters, unique keys and nodes that follow from their states.

    `add` takes a job in, and `change` is the one place where a state changes, so that all of these agree with it.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.records: dict[JobId, Record] = {}
        self.counters = Counters()
        self.unique_keys = UniqueKeys()
        self.pending = PendingJobs(self.records)
        self.due = JobHeap()
        self.expiring = JobHeap()
        self.completed = JobHeap()
        self.dead = JobHeap()
        self._by_place: defaultdict[tuple[str, State], dict[JobId, Record]] = defaultdict(dict)
        self._nodes = nodes

    def named(self, job_id: JobId) -> Record | None:
        """Return the record of an id, in any form of a UUID; None if no job has it."""
        known = parse_uuid(job_id)
        return None if known is None else self.records.get(known)

    def add_all(self, jobs: Sequence[NewJob], *, now: datetime) -> list[Insertion]:
        """
        Take new jobs in, all or none.

        Raises:
            DuplicateJobError: an id belongs to a job of another task or with other arguments.
        """
        specs: dict[JobId, JobSpec] = {}
        for job in jobs:
            known = self.records.get(job.request_id)
            spec = specs.setdefault(job.request_id, job.spec) if known is None else known.spec
            if (spec.task, spec.arguments) != (job.spec.task, job.spec.arguments):
                message = (
                    f"the id {job.request_id!r} belongs to a job of {spec.task!r} with another task or other arguments"
                )
                raise DuplicateJobError(message, request_id=job.request_id)
        return [self.add(job, now=now) for job in jobs]

    def add(self, job: NewJob, *, now: datetime) -> Insertion:
        """Take a new job in, unless its id is here or its key is held: then point to that job."""
        if job.request_id in self.records:
            return Insertion(id=job.request_id, is_new=False)
        unique = job.unique
        if unique is not None:
            holder = self.unique_keys.holder(unique.key, now=now)
            if holder is not None:
                return Insertion(id=holder, is_new=False)
            self.unique_keys.take(unique, job.request_id, now=now)
        due = job.due_at(now)
        expires_in = job.spec.expires_in
        record = Record(
            id=job.request_id,
            spec=job.spec,
            inserted_at=now,
            scheduled_at=due,
            max_attempts=job.spec.max_attempts,
            state=state_of_new(is_due=due <= now),
            expires_at=None if expires_in is None else later(due, expires_in),
            unique=unique,
        )
        self.records[job.request_id] = record
        self._enter(record)
        self.counters.move(record.spec.queue, before=None, after=record.state)
        return Insertion(id=job.request_id, is_new=True)

    def claim(self, record: Record, *, node: NodeId, token: ClaimToken, has_started: bool, now: datetime) -> None:
        """Give a pending job to a node."""
        record.give_to(node, token=token, has_started=has_started, now=now)
        self.change(record, CLAIM, now=now)

    def reschedule(self, record: Record, due: NewDue, *, now: datetime) -> None:
        """Give a job that waits another due time."""
        record.scheduled_at, record.expires_at = due.scheduled_at, due.expires_at
        self.change(record, Change(state=due.state), now=now)

    def change(
        self,
        record: Record,
        change: Change,
        *,
        now: datetime,
        delay: timedelta = _NO_DELAY,
        error: ErrorReport | None = None,
    ) -> None:
        """Change a job, with all that follows from its state. `delay` and `error` are those of the act."""
        before = record.state
        self._leave(record)
        record.change(change, now=now, delay=delay, error=error)
        if change.state is None:
            del self.records[record.id]
        else:
            self._enter(record)
        self.counters.move(record.spec.queue, before=before, after=change.state)
        if change.is_end:
            self._end(record, change, now=now)
        if change.frees_key and record.unique is not None:
            self.unique_keys.free(record.unique, record.id)
        if change.starts_anew:
            self._take_key_again(record, now=now)

    def of(self, *, queue: str | None, states: frozenset[State] | None) -> Iterator[Record]:
        """Yield the records of a queue, or of all, in these states, or in any."""
        for (name, state), records in self._by_place.items():
            if queue in {None, name} and (states is None or state in states):
                yield from records.values()

    def _end(self, record: Record, change: Change, *, now: datetime) -> None:
        """Do what follows from the end of a job. Every end passes here, also the deletion of an unfinished job."""
        if change.state is not None:
            self.counters.count_end(record.spec.queue, record.state, at=now)
        if change.releases_key and record.unique is not None:
            self.unique_keys.release(record.unique, record.id)

    def _take_key_again(self, record: Record, *, now: datetime) -> None:
        """
        Let a job that is retried hold its unique key until it ends, if the key is free.

        A job that still holds its key for a period keeps it so; one whose key another job holds runs without.
        """
        if record.unique is None:
            return
        holder = self.unique_keys.holder(record.unique.key, now=now)
        if holder is None:
            record.unique = Unique(key=record.unique.key)
            self.unique_keys.take(record.unique, record.id, now=now)
        elif holder != record.id:
            record.unique = None

    def _enter(self, record: Record) -> None:
        state, job_id = record.state, record.id
        place = self._by_place[record.spec.queue, state]
        if not place and state is _PENDING:
            self.pending.queues.add(record.spec.queue)
        place[job_id] = record
        if state is _PENDING:
            self.pending.push(record)
        elif state in AWAITS_ITS_TIME:
            self.due.push(job_id, record.scheduled_at)
        elif state is _RUNNING:
            self._nodes.hold(record)
        elif state is _COMPLETED:
            self.completed.push(job_id, record.finished_at)
        elif state in TERMINAL:
            self.dead.push(job_id, record.finished_at)
        if record.expires_at is not None and state in MAY_EXPIRE:
            self.expiring.push(job_id, record.expires_at)

    def _leave(self, record: Record) -> None:
        state, job_id = record.state, record.id
        place = self._by_place[record.spec.queue, state]
        del place[job_id]
        if not place:
            del self._by_place[record.spec.queue, state]
            if state is _PENDING:
                self.pending.queues.remove(record.spec.queue)
        if state is _PENDING:
            self.pending.discard(record)
        elif state in AWAITS_ITS_TIME:
            self.due.discard(job_id)
        elif state is _RUNNING:
            self._nodes.drop(record)
        elif state is _COMPLETED:
            self.completed.discard(job_id)
        elif state in TERMINAL:
            self.dead.discard(job_id)
        if record.expires_at is not None and state in MAY_EXPIRE:
            self.expiring.discard(job_id)
