"""The no-op backend: it accepts all that is valid, keeps nothing and runs nothing."""
# ruff: noqa: ARG002 - it keeps nothing, so it reads few of its arguments

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

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
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry, first_run
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun
from deeper_tasks.domain.settlement import MovedJob, Report, Settled, Settlement
from deeper_tasks.errors import UnsupportedError


class NoopBackend:
    """A store for an environment in which tasks are switched off: every job is taken and none is kept."""

    capabilities = Capabilities(is_durable=False, is_shared=False, runs_jobs=False)

    def __init__(self) -> None:
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    # life

    async def open(self, *, create: bool = True, will_join: bool = False) -> bool:
        return False

    async def close(self) -> None:
        for loop, is_closed in tuple(self._listeners):
            with suppress(RuntimeError):  # its loop has been closed, and the listener with it
                loop.call_soon_threadsafe(is_closed.set)

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
        # A connection is accepted: code that enqueues in transactions must go on where tasks are switched off.
        if atomic and len(jobs) > self.capabilities.max_atomic_insert:
            message = f"at most {self.capabilities.max_atomic_insert} jobs go in at once, not {len(jobs)}"
            raise UnsupportedError(message)
        return [Insertion(id=job.request_id, is_new=True) for job in jobs]

    # consume

    async def register(self, node: Node, *, tasks: frozenset[str] | None = None, now: datetime | None = None) -> None:
        pass

    async def deregister(self, node: NodeId) -> None:
        pass

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
        return Claim()

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        return []

    async def report(self, reports: Sequence[Report], *, now: datetime | None = None) -> list[JobId]:
        return []

    async def beat(self, node: NodeId, *, busy: int = 0, now: datetime | None = None) -> Beat:
        return Beat(cancels={}, held={}, paused=frozenset())

    # maintain

    async def promote(self, *, now: datetime | None = None) -> Promotion:
        return Promotion(count=0, queues=frozenset(), next_due_in=None)

    async def rescue(
        self, node: NodeId, *, beat: int, trusted: Collection[str] = (), now: datetime | None = None
    ) -> Rescue:
        return Rescue(jobs=(), queues=frozenset(), is_finished=True)

    async def expire(self, *, now: datetime | None = None) -> list[MovedJob]:
        return []

    async def prune(self, retention: Retention, *, now: datetime | None = None) -> int:
        return 0

    # schedules

    async def put_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> ScheduleEntry:
        return ScheduleEntry(schedule=schedule, next_run=first_run(schedule, None, now=_moment(now)))

    async def pause_schedule(self, name: str, *, is_paused: bool, now: datetime | None = None) -> ScheduleEntry | None:
        return None

    async def remove_schedule(self, name: str, *, is_remembered: bool = False) -> bool:
        return False

    async def schedules(self, *, now: datetime | None = None) -> ScheduleBook:
        return ScheduleBook(now=_moment(now), entries=())

    async def fire(self, firing: Firing, *, now: datetime | None = None) -> Fired | None:
        return None

    async def run_schedule(self, name: str, *, request_id: RequestId, now: datetime | None = None) -> RunNow | None:
        return None

    async def schedule_runs(self, name: str, *, limit: int = MAX_KEPT_RUNS) -> list[ScheduleRun]:
        return []

    # control

    async def cancel(self, target: JobFilter, *, reason: str, now: datetime | None = None) -> list[MovedJob]:
        return []

    async def retry(self, target: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        return []

    async def reschedule(
        self, job_id: JobId, *, due: datetime | timedelta | None, now: datetime | None = None
    ) -> Rescheduled | None:
        return None

    async def delete(self, target: JobFilter) -> list[JobId]:
        return []

    async def put_queue(self, settings: QueueSettings) -> None:
        pass

    # look

    async def get(self, job_id: JobId) -> Job | None:
        return None

    async def find(self, query: JobQuery) -> JobList:
        return JobList(jobs=(), total=0, total_is_exact=True, next=None)

    async def find_ids(self, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
        return [[] for _ in beginnings]

    async def statistics(self, *, now: datetime | None = None) -> Counts:
        return Counts(queues={}, nodes=(), now=_moment(now))

    async def service(self, queue: str, *, task: str, now: datetime | None = None) -> Service:
        return Service(paused_at=None, nodes=(), held=(), knows_task={}, now=_moment(now))

    async def nodes(self) -> list[NodeRecord]:
        return []

    async def queues(self) -> list[QueueSettings]:
        return []

    # wake

    async def notify(self, notifications: Sequence[Notification]) -> None:
        pass

    async def listen(self) -> AsyncIterator[Notification]:
        listener = (asyncio.get_running_loop(), asyncio.Event())
        self._listeners.add(listener)
        try:
            await listener[1].wait()
        finally:
            self._listeners.discard(listener)
        return
        yield  # makes this a generator


def _moment(now: datetime | None) -> datetime:
    return datetime.now(UTC) if now is None else now
