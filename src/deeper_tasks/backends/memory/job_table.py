"""The job table: all records, each filed by what happens to it next, so that no step has to search."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from datetime import datetime

from deeper_tasks.backends.memory.counters import Counters
from deeper_tasks.backends.memory.job_heap import JobHeap
from deeper_tasks.backends.memory.nodes import Nodes
from deeper_tasks.backends.memory.queue_names import QueueNames
from deeper_tasks.backends.memory.record import Record
from deeper_tasks.backends.memory.unique_keys import UniqueKeys
from deeper_tasks.domain.end_of_time import later
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Insertion, NewJob
from deeper_tasks.domain.rescheduling import moved_expiry, state_when_due
from deeper_tasks.domain.state import AWAITS_ITS_TIME, MAY_EXPIRE, State
from deeper_tasks.domain.unique import Unique, outlives_deletion


class Gate:
    """The filter of a claim: of the jobs in quarantine it passes only the first so many. The others are `held_back`."""

    __slots__ = ("_places", "held_back")

    def __init__(self, places: int) -> None:
        self._places = places
        self.held_back: list[Record] = []

    def admits(self, record: Record) -> bool:
        """Let a record through, or hold it back."""
        if record.marks.is_quarantined:
            self._places -= 1
            if self._places < 0:
                self.held_back.append(record)
                return False
        return True


class JobTable:
    """
    The records, with the lines, counters, holders and nodes that follow their states.

    Only `add`, `move`, `reschedule` and `remove` change a state, so these always agree with it.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.records: dict[JobId, Record] = {}
        self.counters = Counters()
        self.unique_keys = UniqueKeys()
        self.pending: defaultdict[str, JobHeap] = defaultdict(JobHeap)
        self.due = JobHeap()
        self.expiring = JobHeap()
        self.completed = JobHeap()
        self.dead = JobHeap()
        self.waiting_queues = QueueNames()
        self.by_place: defaultdict[tuple[str, State], dict[JobId, Record]] = defaultdict(dict)
        self._nodes = nodes

    def add(self, job: NewJob, *, now: datetime) -> Insertion:
        """Take a new job in, unless its id is here or its key is held: then point to that job."""
        if job.id in self.records:
            return Insertion(id=job.id, is_new=False)
        unique = job.unique
        if unique is not None:
            holder = self.unique_keys.holder(unique.key, now=now)
            if holder is not None:
                return Insertion(id=holder, is_new=False)
            self.unique_keys.take(unique, job.id, now=now)
        due = job.due_at(now)
        expires_in = job.spec.expires_in
        record = Record(
            id=job.id,
            spec=job.spec,
            inserted_at=now,
            scheduled_at=due,
            max_attempts=job.spec.max_attempts,
            state=State.SCHEDULED if due > now else State.PENDING,
            expires_at=None if expires_in is None else later(due, expires_in),
            unique=unique,
        )
        self.records[job.id] = record
        self._enter(record)
        self.counters.move(record.spec.queue, before=None, after=record.state)
        return Insertion(id=job.id, is_new=True)

    def move(self, record: Record, state: State, *, now: datetime) -> None:
        """
        Put a record into another state, with its other fields as they are by then.

        An end is stamped and counted, and drops the node and, where it lasts
        until then, the unique key.
        """
        before = record.state
        self._leave(record)
        record.state = state
        if before is State.RUNNING:
            record.node = None
        if state.is_terminal:
            record.finished_at = now
            self.counters.count_end(record.spec.queue, state, at=now)
            if record.unique is not None:
                self.unique_keys.release(record.unique, record.id)
        self._enter(record)
        self.counters.move(record.spec.queue, before=before, after=state)

    def reschedule(self, record: Record, due: datetime, *, keeps_expiry: bool, now: datetime) -> None:
        """Give a waiting record another due time, with the state and the expiry that follow from it."""
        before = record.state
        self._leave(record)
        if record.expires_at is not None and not keeps_expiry:
            record.expires_at = moved_expiry(record.expires_at, was=record.scheduled_at, due=due)
        record.scheduled_at = due
        record.state = state_when_due(before, is_due=due <= now)
        self._enter(record)
        self.counters.move(record.spec.queue, before=before, after=record.state)

    def take_key_again(self, record: Record, *, now: datetime) -> None:
        """
        Let a job that is retried hold its unique key until it ends, if the key is free.

        One that still holds it for a period keeps it so; one whose key another
        job holds runs without.
        """
        if record.unique is None:
            return
        holder = self.unique_keys.holder(record.unique.key, now=now)
        if holder is None:
            record.unique = Unique(key=record.unique.key)
            self.unique_keys.take(record.unique, record.id, now=now)
        elif holder != record.id:
            record.unique = None

    def remove(self, record: Record) -> None:
        """Forget a job, and let go of its unique key, unless that outlives it."""
        self._leave(record)
        del self.records[record.id]
        self.counters.move(record.spec.queue, before=record.state, after=None)
        if record.unique is not None and not outlives_deletion(record.state):
            self.unique_keys.free(record.unique, record.id)

    def take_pending(self, queue: str, *, limit: int, gate: Gate, now: datetime) -> Iterator[Record]:
        """
        Take the first of a queue that are not expired out of its line.

        An expired one is taken out too and waits to be failed, so that many of
        them do not slow down every claim.
        """
        line = self.pending[queue]
        while limit > 0 and (job_id := line.pop()) is not None:
            record = self.records[job_id]
            if not record.is_expired(now) and gate.admits(record):
                limit -= 1
                yield record

    def put_back(self, records: Iterable[Record]) -> None:
        """Put pending ones that were not taken back into their places."""
        for record in records:
            self.pending[record.spec.queue].push(record.id, record.spec.priority, record.scheduled_at)

    def take_in_turn(self, queues: Iterable[str], *, limit: int, gate: Gate, now: datetime) -> list[Record]:
        """Take the first of each queue out of its line, then the second of each, and so on."""
        records: list[Record] = []
        lines: deque[Iterator[Record]] = deque()
        for queue in queues:
            if len(records) == limit:
                return records
            line = self.take_pending(queue, limit=limit, gate=gate, now=now)
            if (record := next(line, None)) is not None:
                records.append(record)
                lines.append(line)
        while lines and len(records) < limit:
            line = lines.popleft()
            if (record := next(line, None)) is not None:
                records.append(record)
                lines.append(line)
        return records

    def of(self, *, queue: str | None, states: frozenset[State] | None) -> Iterator[Record]:
        """Yield the records of a queue, or of all, in these states, or in any."""
        for (name, state), records in self.by_place.items():
            if queue in {None, name} and (states is None or state in states):
                yield from records.values()

    def _enter(self, record: Record) -> None:
        state, job_id = record.state, record.id
        place = self.by_place[record.spec.queue, state]
        if not place and state is State.PENDING:
            self.waiting_queues.add(record.spec.queue)
        place[job_id] = record
        if state is State.PENDING:
            self.pending[record.spec.queue].push(job_id, record.spec.priority, record.scheduled_at)
        elif state in AWAITS_ITS_TIME:
            self.due.push(job_id, record.scheduled_at)
        elif state is State.RUNNING:
            self._nodes.hold(record)
        elif state is State.COMPLETED:
            self.completed.push(job_id, record.finished_at)
        elif state.is_terminal:
            self.dead.push(job_id, record.finished_at)
        if record.expires_at is not None and state in MAY_EXPIRE:
            self.expiring.push(job_id, record.expires_at)

    def _leave(self, record: Record) -> None:
        state, job_id = record.state, record.id
        place = self.by_place[record.spec.queue, state]
        del place[job_id]
        if not place:
            del self.by_place[record.spec.queue, state]
            if state is State.PENDING:
                self.waiting_queues.remove(record.spec.queue)
        if state is State.PENDING:
            self.pending[record.spec.queue].discard(job_id)
        elif state in AWAITS_ITS_TIME:
            self.due.discard(job_id)
        elif state is State.RUNNING:
            self._nodes.drop(record)
        elif state is State.COMPLETED:
            self.completed.discard(job_id)
        elif state.is_terminal:
            self.dead.discard(job_id)
        if record.expires_at is not None and state in MAY_EXPIRE:
            self.expiring.discard(job_id)
