"""The memory backend: the protocol over tables in this process, one call at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from deeper_tasks import native
from deeper_tasks.backends.buckets import bucket_of, last_hour, today
from deeper_tasks.backends.memory.job_table import Gate, JobTable
from deeper_tasks.backends.memory.listeners import Listeners
from deeper_tasks.backends.memory.listing import matching, page
from deeper_tasks.backends.memory.nodes import Nodes
from deeper_tasks.backends.memory.record import Record
from deeper_tasks.backends.memory.schedules import Schedules
from deeper_tasks.backends.protocol import (
    MAX_BATCH,
    SILENT_NODES_KEPT,
    Beat,
    Capabilities,
    Claim,
    Counts,
    JobFilter,
    JobList,
    JobQuery,
    Node,
    NodeRecord,
    Notification,
    Promotion,
    QueueCounts,
    QueueSettings,
    Rescue,
    Retention,
    Retried,
    Service,
)
from deeper_tasks.domain.end_of_time import later
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import EXPIRED, Insertion, Job, JobSpec, NewJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.rescheduling import Rescheduled, due_moment
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun
from deeper_tasks.domain.settlement import (
    UNCOUNTED,
    MovedJob,
    Report,
    Settled,
    Settlement,
    is_spared_by_rescue,
    state_after,
    state_after_rescue,
    worker_lost,
)
from deeper_tasks.domain.state import AWAITS_ITS_TIME, MAY_BE_RESCHEDULED, MAY_RUN_AGAIN, State
from deeper_tasks.errors import DuplicateJobError, UnsupportedError
from deeper_tasks.forks import process_watch


class MemoryBackend:
    """
    A store in the memory of one process, for tests and throw-away work.

    Safe to use from several threads and event loops: one lock makes every call
    atomic. What is in it stays over `close` and goes with the process. `now`,
    an aware datetime by a clock of the caller's, takes the place of the real time.
    """

    capabilities = Capabilities(is_durable=False, is_shared=False)

    def __init__(self, *, now: Callable[[], datetime] | None = None) -> None:
        self._now = now or _real_time
        self._lock = native.allocate_lock()
        self._nodes = Nodes()
        self._jobs = JobTable(self._nodes)
        self._timetable = Schedules(self._jobs)
        self._queues: dict[str, QueueSettings] = {}
        self._listeners = Listeners()
        process_watch.add(self)

    def forget_parent(self) -> None:
        """In the child of a fork: another thread of the parent may have held the locks. No caller listens here yet."""
        self._lock = native.allocate_lock()
        self._listeners = Listeners()

    # life

    async def open(self, *, create: bool = True, will_join: bool = False) -> bool:  # noqa: ARG002 - it is always there
        return False

    async def close(self) -> None:
        self._listeners.close()

    async def migrate(self) -> tuple[str, ...]:
        return ()

    # produce

    async def insert(
        self,
        jobs: Sequence[NewJob],
        *,
        atomic: bool = True,
        connection: object | None = None,
        now: datetime | None = None,
    ) -> list[Insertion]:
        if connection is not None:
            message = (
                "jobs in memory cannot be part of a transaction; leave connection= out, or use a store in a database"
            )
            raise UnsupportedError(message)
        if atomic and len(jobs) > self.capabilities.max_atomic_insert:
            message = f"at most {self.capabilities.max_atomic_insert} jobs go in at once, not {len(jobs)}"
            raise UnsupportedError(message)
        with self._lock:
            self._refuse_other_content(jobs)
            moment = self._moment(now)
            return [self._jobs.add(job, now=moment) for job in jobs]

    # consume

    async def register(self, node: Node, *, tasks: frozenset[str] | None = None, now: datetime | None = None) -> None:
        with self._lock:
            self._nodes.add(node, tasks=tasks, now=self._moment(now))

    async def deregister(self, node: NodeId) -> None:
        with self._lock:
            self._nodes.remove_idle(node)

    async def claim(
        self,
        queue: str | QueuePattern,
        *,
        limit: int,
        slots: int,
        node: NodeId,
        token: ClaimToken,
        after: str = "",
        quarantined: int = MAX_BATCH,
        now: datetime | None = None,
    ) -> Claim:
        with self._lock:
            taken = self._nodes.alive(node).claims.get(token)
            if taken is not None:
                return Claim(jobs=tuple(record.as_claimed() for record in taken.values()))
            moment, most, gate = self._moment(now), min(limit, MAX_BATCH), Gate(quarantined)
            if isinstance(queue, QueuePattern):
                turn = (
                    name for name in self._jobs.waiting_queues.turn(queue, after=after) if not self._is_paused(name)
                )
                records = self._jobs.take_in_turn(turn, limit=most, gate=gate, now=moment)
            elif self._is_paused(queue):
                return Claim(is_paused=True)
            else:
                records = list(self._jobs.take_pending(queue, limit=most, gate=gate, now=moment))
            self._jobs.put_back(gate.held_back)
            for index, record in enumerate(records):
                record.attempt += 1
                record.node, record.token, record.led_to, record.claimed_at = node, token, None, moment
                record.attempted_at = moment if index < slots and not record.marks.is_quarantined else None
                record.progress = None
                self._jobs.move(record, State.RUNNING, now=moment)
            return Claim(jobs=tuple(record.as_claimed() for record in records))

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        with self._lock:
            moment = self._moment(now)
            answers = (self._settle(settlement, now=moment) for settlement in settlements)
            return [settled for settled in answers if settled is not None]

    async def report(self, reports: Sequence[Report], *, now: datetime | None = None) -> list[JobId]:
        with self._lock:
            moment = self._moment(now)
            accepted: list[JobId] = []
            for report in reports:
                record = self._jobs.records.get(report.id)
                if record is not None and record.token == report.token and record.state is State.RUNNING:
                    record.add_report(report, at=moment)
                    accepted.append(record.id)
            return accepted

    async def beat(self, node: NodeId, *, busy: int = 0, now: datetime | None = None) -> Beat:
        with self._lock:
            member = self._nodes.alive(node)
            member.beat += 1
            member.beat_at = self._moment(now)
            member.busy = busy
            held = member.held()
            return Beat(
                cancels={record.id: record.cancel_requested for record in held if record.cancel_requested is not None},
                held={record.id: record.token for record in held if record.token is not None},
                paused=frozenset(queue for queue in self._queues if self._is_paused(queue)),
            )

    # maintain

    async def promote(self, *, now: datetime | None = None) -> Promotion:
        with self._lock:
            moment = self._moment(now)
            due, count, queues = self._jobs.due, 0, set()
            while (entry := due.first()) is not None and entry[0] <= moment and count < MAX_BATCH:
                record = self._jobs.records[entry[-1]]
                self._jobs.move(record, State.PENDING, now=moment)
                queues.add(record.spec.queue)
                count += 1
            next_due_in = None if entry is None else max(entry[0] - moment, timedelta(0))
            return Promotion(count=count, queues=frozenset(queues), next_due_in=next_due_in)

    async def rescue(
        self, node: NodeId, *, beat: int, trusted: Collection[str] = (), now: datetime | None = None
    ) -> Rescue:
        with self._lock:
            moment = self._moment(now)
            member = self._nodes.get(node)
            if member is None or member.beat != beat:
                return Rescue(jobs=(), queues=frozenset(), is_finished=True)
            member.is_lost = True
            records = member.held(MAX_BATCH)
            jobs = tuple(self._take_back(record, node=node, trusted=trusted, now=moment) for record in records)
            self._nodes.remove_idle(node)
            return Rescue(
                jobs=jobs,
                queues=frozenset(record.spec.queue for record in records if record.state is State.PENDING),
                is_finished=not member.claims,
            )

    async def expire(self, *, now: datetime | None = None) -> list[MovedJob]:
        with self._lock:
            moment = self._moment(now)
            expiring = self._jobs.expiring
            expired: list[MovedJob] = []
            while (entry := expiring.first()) is not None and entry[0] <= moment and len(expired) < MAX_BATCH:
                record = self._jobs.records[entry[-1]]
                record.add_error(EXPIRED, at=moment)
                self._jobs.move(record, State.FAILED, now=moment)
                expired.append(record.as_moved(error=EXPIRED))
            return expired

    async def prune(self, retention: Retention, *, now: datetime | None = None) -> int:
        with self._lock:
            moment = self._moment(now)
            lines = [
                (line, kept)
                for line, kept in ((self._jobs.completed, retention.completed), (self._jobs.dead, retention.failed))
                if kept is not None
            ]
            self._nodes.forget_silent(before=moment - SILENT_NODES_KEPT)
            for count in range(MAX_BATCH):
                firsts = [entry for line, kept in lines if (entry := line.first()) and entry[0] + kept <= moment]
                if not firsts:
                    return count
                self._jobs.remove(self._jobs.records[min(firsts)[-1]])
            return MAX_BATCH

    # schedules

    async def put_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> ScheduleEntry:
        with self._lock:
            return self._timetable.put(schedule, now=self._moment(now))

    async def pause_schedule(self, name: str, *, is_paused: bool, now: datetime | None = None) -> ScheduleEntry | None:
        with self._lock:
            return self._timetable.pause(name, is_paused=is_paused, now=self._moment(now))

    async def remove_schedule(self, name: str, *, is_remembered: bool = False) -> bool:
        with self._lock:
            return self._timetable.remove(name, is_remembered=is_remembered)

    async def schedules(self, *, now: datetime | None = None) -> ScheduleBook:
        with self._lock:
            return self._timetable.book(now=self._moment(now))

    async def fire(self, firing: Firing, *, now: datetime | None = None) -> Fired | None:
        with self._lock:
            return self._timetable.fire(firing, now=self._moment(now))

    async def run_schedule(self, name: str, *, job_id: JobId, now: datetime | None = None) -> RunNow | None:
        with self._lock:
            return self._timetable.run(name, job_id=job_id, now=self._moment(now))

    async def schedule_runs(self, name: str, *, limit: int = MAX_KEPT_RUNS) -> list[ScheduleRun]:
        with self._lock:
            return self._timetable.runs(name, limit=limit)

    # control

    async def cancel(self, target: JobFilter, *, reason: str, now: datetime | None = None) -> list[MovedJob]:
        with self._lock:
            moment = self._moment(now)
            is_named = target.ids is not None
            live = (
                record
                for record in matching(self._jobs, target)
                if not record.state.is_terminal and (is_named or record.cancel_requested is None)
            )
            records = list(islice(live, MAX_BATCH))
            for record in records:
                if record.cancel_requested is None:
                    record.cancel_requested = reason
                if record.state is not State.RUNNING:
                    self._jobs.move(record, State.CANCELLED, now=moment)
            return [record.as_moved() for record in records]

    async def retry(self, target: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        with self._lock:
            moment = self._moment(now)
            ended = (record for record in matching(self._jobs, target) if record.state in MAY_RUN_AGAIN)
            records = list(islice(ended, MAX_BATCH))
            for record in records:
                record.max_attempts = record.attempt + record.spec.max_attempts
                record.expires_at = record.cancel_requested = record.finished_at = None
                record.marks = record.marks.after_retry()
                record.scheduled_at = moment
                self._jobs.move(record, State.PENDING, now=moment)
                self._jobs.take_key_again(record, now=moment)
            return [Retried(id=record.id, queue=record.spec.queue) for record in records]

    async def reschedule(
        self, job_id: JobId, *, due: datetime | timedelta | None, now: datetime | None = None
    ) -> Rescheduled | None:
        with self._lock:
            moment = self._moment(now)
            record = self._jobs.records.get(job_id)
            if record is None or record.state not in MAY_BE_RESCHEDULED:
                return None
            before = record.state
            if due is not None or before is not State.PENDING:
                self._jobs.reschedule(record, due_moment(due, now=moment), keeps_expiry=due is None, now=moment)
            return record.as_rescheduled(before=before)

    async def delete(self, target: JobFilter) -> list[JobId]:
        with self._lock:
            idle = (record for record in matching(self._jobs, target) if record.state is not State.RUNNING)
            records = list(islice(idle, MAX_BATCH))
            for record in records:
                self._jobs.remove(record)
            return [record.id for record in records]

    async def put_queue(self, settings: QueueSettings) -> None:
        with self._lock:
            self._queues[settings.name] = settings

    # look

    async def get(self, job_id: JobId) -> Job | None:
        with self._lock:
            record = self._jobs.records.get(job_id)
            return None if record is None else record.as_job()

    async def find(self, query: JobQuery) -> JobList:
        with self._lock:
            return page(self._jobs, query)

    async def find_ids(self, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
        with self._lock:
            ids = sorted(self._jobs.records)
        starts = [bisect_left(ids, begun) for begun in beginnings]
        return [
            [job_id for job_id in ids[start : start + limit] if job_id.startswith(begun)]
            for start, begun in zip(starts, beginnings, strict=True)
        ]

    async def statistics(self, *, now: datetime | None = None) -> Counts:
        with self._lock:
            moment = self._moment(now)
            counters, bucket = self._jobs.counters, bucket_of(moment)
            ended_today, ended_last_hour = counters.ended_in(today(bucket)), counters.ended_in(last_hour(bucket))
            names = counters.queues() | ended_today.keys() | ended_last_hour.keys() | self._queues.keys()
            queues = {
                name: QueueCounts(
                    by_state=counters.by_state(name),
                    ended_today=dict(ended_today[name]),
                    ended_last_hour=dict(ended_last_hour[name]),
                    paused_at=self._queues[name].paused_at if name in self._queues else None,
                )
                for name in sorted(names)
            }
            return Counts(
                queues=queues,
                nodes=tuple(member.as_record() for member in self._nodes),
                now=moment,
                held=tuple(held for member in self._nodes for held in member.held_by_queue()),
            )

    async def service(self, queue: str, *, task: str, now: datetime | None = None) -> Service:
        with self._lock:
            settings = self._queues.get(queue)
            return Service(
                paused_at=None if settings is None else settings.paused_at,
                nodes=tuple(member.as_record() for member in self._nodes),
                held=tuple(held for member in self._nodes for held in member.held_by_queue()),
                knows_task={member.node.id: task in member.tasks for member in self._nodes if member.tasks is not None},
                now=self._moment(now),
            )

    async def nodes(self) -> list[NodeRecord]:
        with self._lock:
            return [member.as_record() for member in self._nodes]

    async def queues(self) -> list[QueueSettings]:
        with self._lock:
            return [self._queues[name] for name in sorted(self._queues)]

    # wake

    async def notify(self, notifications: Sequence[Notification]) -> None:
        self._listeners.send(notifications)

    def listen(self) -> AsyncIterator[Notification]:
        return self._listeners.listen()

    # steps

    def _moment(self, now: datetime | None) -> datetime:
        return self._now() if now is None else now

    def _refuse_other_content(self, jobs: Sequence[NewJob]) -> None:
        specs: dict[JobId, JobSpec] = {}
        for job in jobs:
            known = self._jobs.records.get(job.id)
            spec = specs.setdefault(job.id, job.spec) if known is None else known.spec
            if (spec.task, spec.arguments) != (job.spec.task, job.spec.arguments):
                message = f"the id {job.id!r} belongs to a job of {spec.task!r} with another task or other arguments"
                raise DuplicateJobError(message, job_id=job.id)

    def _is_paused(self, queue: str) -> bool:
        settings = self._queues.get(queue)
        return settings is not None and settings.paused_at is not None

    def _settle(self, settlement: Settlement, *, now: datetime) -> Settled | None:
        record = self._jobs.records.get(settlement.id)
        if record is None or record.token != settlement.token:
            return None
        if record.led_to is not None:
            return Settled(id=record.id, state=record.led_to)
        self._end(record, settlement, now=now)
        return Settled(id=record.id, state=record.state)

    def _end(self, record: Record, settlement: Settlement, *, now: datetime) -> None:
        end, delay = settlement.end, settlement.delay
        state = state_after(end, delay=delay, is_cancel_requested=record.cancel_requested is not None)
        if settlement.error is not None:
            record.add_error(settlement.error, at=now)
        if end in UNCOUNTED and not state.is_terminal:
            record.attempt -= 1
        if settlement.ran_for is not None:
            record.attempted_at = now - settlement.ran_for
        if state is State.COMPLETED:
            record.result, record.result_omitted = settlement.result, settlement.result_omitted
        if state in AWAITS_ITS_TIME:
            record.scheduled_at = later(now, delay)
        record.marks = record.marks.after(settlement, now=now)
        record.led_to = state
        self._jobs.move(record, state, now=now)

    def _take_back(self, record: Record, *, node: NodeId, trusted: Collection[str], now: datetime) -> MovedJob:
        attempt, most, has_started = record.attempt, record.max_attempts, record.attempted_at is not None
        is_cancel_requested = record.cancel_requested is not None
        state = state_after_rescue(
            attempt=attempt, max_attempts=most, has_started=has_started, is_cancel_requested=is_cancel_requested
        )
        error = None
        if is_spared_by_rescue(attempt=attempt, max_attempts=most, has_started=has_started):
            record.attempt -= 1
        else:
            error = worker_lost(node)
            record.add_error(error, at=now)
        record.marks = record.marks.after_rescue(is_suspect=has_started and record.spec.task not in trusted)
        self._jobs.move(record, state, now=now)
        record.token = None
        return record.as_moved(attempt=attempt, error=error)


def _real_time() -> datetime:
    return datetime.now(UTC)
