"""The memory backend: the protocol over tables in this process, one call at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

from deeper_tasks import native
from deeper_tasks.backends import hints
from deeper_tasks.backends.memory import consuming, control, listing, maintenance, reads
from deeper_tasks.backends.memory.listeners import Listeners
from deeper_tasks.backends.memory.tables import Tables
from deeper_tasks.backends.protocol import (
    MAX_BATCH,
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
    QueueSettings,
    Rescue,
    Retention,
    Retried,
    Service,
)
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId, RequestId
from deeper_tasks.domain.job import Insertion, Job, NewJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun
from deeper_tasks.domain.settlement import MovedJob, Report, Settled, Settlement
from deeper_tasks.errors import UnsupportedError
from deeper_tasks.forks import process_watch


class MemoryBackend:
    """
    A store in the memory of one process, for tests and throw-away work.

    Safe to use from several threads and event loops: one lock makes every call atomic. Its jobs outlive `close` and
    end with the process. `now` returns an aware datetime, by the caller's clock, in place of the real time.
    """

    capabilities = Capabilities(is_durable=False, is_shared=False)

    def __init__(self, *, now: Callable[[], datetime] | None = None) -> None:
        self._now = now or _real_time
        self._lock = native.allocate_lock()
        self._tables = Tables()
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
            now = self._moment(now)
            answers = self._tables.jobs.add_all(jobs, now=now)
        new = (job for job, answer in zip(jobs, answers, strict=True) if answer.is_new)
        self._listeners.send(hints.after_insert(new, now=now))
        return answers

    # consume

    async def register(self, node: Node, *, tasks: frozenset[str] | None = None, now: datetime | None = None) -> None:
        with self._lock:
            self._tables.nodes.add(node, tasks=tasks, now=self._moment(now))

    async def deregister(self, node: NodeId) -> None:
        with self._lock:
            self._tables.nodes.remove_idle(node)

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
            return consuming.claim(
                self._tables,
                queue,
                limit=limit,
                slots=slots,
                node=node,
                token=token,
                after=after,
                quarantined=quarantined,
                now=self._moment(now),
            )

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        with self._lock:
            settling = consuming.settle(self._tables, settlements, now=self._moment(now))
        if settling.hints:
            self._listeners.send(settling.hints)
        return settling.settled

    async def report(self, reports: Sequence[Report], *, now: datetime | None = None) -> list[JobId]:
        with self._lock:
            return consuming.report(self._tables, reports, now=self._moment(now))

    async def beat(self, node: NodeId, *, busy: int = 0, now: datetime | None = None) -> Beat:
        with self._lock:
            return consuming.beat(self._tables, node, busy=busy, now=self._moment(now))

    # maintain

    async def promote(self, *, now: datetime | None = None) -> Promotion:
        with self._lock:
            promotion = maintenance.promote(self._tables, now=self._moment(now))
        self._listeners.send(hints.new_pending(promotion.queues))
        return promotion

    async def rescue(
        self, node: NodeId, *, beat: int, trusted: Collection[str] = (), now: datetime | None = None
    ) -> Rescue:
        with self._lock:
            rescue = maintenance.rescue(self._tables, node, beat=beat, trusted=trusted, now=self._moment(now))
        self._listeners.send(hints.new_pending(rescue.queues))
        return rescue

    async def expire(self, *, now: datetime | None = None) -> list[MovedJob]:
        with self._lock:
            return maintenance.expire(self._tables, now=self._moment(now))

    async def prune(self, retention: Retention, *, now: datetime | None = None) -> int:
        with self._lock:
            return maintenance.prune(self._tables, retention, now=self._moment(now))

    # schedules

    async def put_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> ScheduleEntry:
        with self._lock:
            entry = self._tables.schedules.put(schedule, now=self._moment(now))
        self._listeners.send(hints.after_new_next_run())
        return entry

    async def pause_schedule(self, name: str, *, is_paused: bool, now: datetime | None = None) -> ScheduleEntry | None:
        with self._lock:
            entry = self._tables.schedules.pause(name, is_paused=is_paused, now=self._moment(now))
        if entry is not None and not is_paused:
            self._listeners.send(hints.after_new_next_run())
        return entry

    async def remove_schedule(self, name: str, *, is_remembered: bool = False) -> bool:
        with self._lock:
            return self._tables.schedules.remove(name, is_remembered=is_remembered)

    async def schedules(self, *, now: datetime | None = None) -> ScheduleBook:
        with self._lock:
            return self._tables.schedules.book(now=self._moment(now))

    async def fire(self, firing: Firing, *, now: datetime | None = None) -> Fired | None:
        with self._lock:
            fired = self._tables.schedules.fire(firing, now=self._moment(now))
        self._listeners.send(hints.after_fire(firing.schedule, fired))
        return fired

    async def run_schedule(self, name: str, *, request_id: RequestId, now: datetime | None = None) -> RunNow | None:
        with self._lock:
            done = self._tables.schedules.run(name, request_id=request_id, now=self._moment(now))
        self._listeners.send(hints.after_run(done))
        return done

    async def schedule_runs(self, name: str, *, limit: int = MAX_KEPT_RUNS) -> list[ScheduleRun]:
        with self._lock:
            return self._tables.schedules.runs(name, limit=limit)

    # control

    async def cancel(self, target: JobFilter, *, reason: str, now: datetime | None = None) -> list[MovedJob]:
        with self._lock:
            moved = control.cancel(self._tables, target, reason=reason, now=self._moment(now))
        self._listeners.send(hints.after_cancel(moved))
        return moved

    async def retry(self, target: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        with self._lock:
            retried = control.retry(self._tables, target, now=self._moment(now))
        self._listeners.send(hints.after_retry(retried))
        return retried

    async def reschedule(
        self, job_id: JobId, *, due: datetime | timedelta | None, now: datetime | None = None
    ) -> Rescheduled | None:
        with self._lock:
            done = control.reschedule(self._tables, job_id, due=due, now=self._moment(now))
        self._listeners.send(hints.after_reschedule(done))
        return done

    async def delete(self, target: JobFilter) -> list[JobId]:
        with self._lock:
            return control.delete(self._tables, target, now=self._now())

    async def put_queue(self, settings: QueueSettings) -> None:
        with self._lock:
            self._tables.queues.put(settings)
        self._listeners.send(hints.after_put_queue(settings))

    # look

    async def get(self, job_id: JobId) -> Job | None:
        with self._lock:
            record = self._tables.jobs.named(job_id)
            return None if record is None else record.as_job()

    async def find(self, query: JobQuery) -> JobList:
        with self._lock:
            return listing.page(self._tables.jobs, query)

    async def find_ids(self, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
        with self._lock:
            return reads.find_ids(self._tables, beginnings, limit=limit)

    async def statistics(self, *, now: datetime | None = None) -> Counts:
        with self._lock:
            return reads.statistics(self._tables, now=self._moment(now))

    async def service(self, queue: str, *, task: str, now: datetime | None = None) -> Service:
        with self._lock:
            return reads.service(self._tables, queue, task=task, now=self._moment(now))

    async def nodes(self) -> list[NodeRecord]:
        with self._lock:
            return list(self._tables.nodes.records())

    async def queues(self) -> list[QueueSettings]:
        with self._lock:
            return self._tables.queues.all()

    # wake

    async def notify(self, notifications: Sequence[Notification]) -> None:
        self._listeners.send(notifications)

    def listen(self) -> AsyncIterator[Notification]:
        return self._listeners.listen()

    # steps

    def _moment(self, now: datetime | None) -> datetime:
        return self._now() if now is None else now


def _real_time() -> datetime:
    return datetime.now(UTC)
