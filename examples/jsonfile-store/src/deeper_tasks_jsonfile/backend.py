"""The backend: every method of the protocol is a step on the document, taken in a thread, under the file's lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

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
from deeper_tasks.domain.id_forms import WHOLE_IDS
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId, RequestId
from deeper_tasks.domain.job import Insertion, Job, NewJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun
from deeper_tasks.domain.settlement import MovedJob, Report, Settled, Settlement
from deeper_tasks.errors import BackendUnavailableError, UnsupportedError
from deeper_tasks_jsonfile import consume, control, look, maintain, produce, schedules
from deeper_tasks_jsonfile.document import Document
from deeper_tasks_jsonfile.file import DocumentFile

_P = ParamSpec("_P")
_T = TypeVar("_T")


class JsonFileBackend:
    """
    A store in one JSON file, for the processes of one machine.

    Durable: a call that returned is on the disk. Slow: a call that changes
    something writes all of the file.
    """

    capabilities = Capabilities(is_durable=True, is_shared=True, has_hints=False, makes_ids=True, ids=WHOLE_IDS)

    def __init__(self, path: Path) -> None:
        self._file = DocumentFile(path)

    # life

    async def open(self, *, create: bool = True, will_join: bool = False) -> bool:  # noqa: ARG002 - it cannot be joined
        is_new = create and await asyncio.to_thread(self._file.make)
        await self._read(lambda _: None)
        return is_new

    @property
    def location(self) -> str:
        """The absolute path of the file."""
        return str(self._file.path)

    async def close(self) -> None:
        await asyncio.to_thread(self._file.close)

    async def migrate(self) -> tuple[str, ...]:
        await self.open()
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
            raise UnsupportedError("a file takes no part in a transaction; leave connection= out")
        if atomic and len(jobs) > self.capabilities.max_atomic_insert:
            raise UnsupportedError(f"at most {self.capabilities.max_atomic_insert} jobs go in at once, not {len(jobs)}")
        try:
            return await self._change(produce.insert, jobs, now=_moment(now))
        except BackendUnavailableError as error:
            error.request_ids = tuple(job.request_id for job in jobs)
            raise

    # consume

    async def register(self, node: Node, *, tasks: frozenset[str] | None = None, now: datetime | None = None) -> None:
        await self._change(consume.register, node, tasks=tasks, now=_moment(now))

    async def deregister(self, node: NodeId) -> None:
        await self._change(consume.deregister, node)

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
        return await self._change(
            consume.claim,
            queue,
            limit=limit,
            slots=slots,
            node=node,
            token=token,
            after=after,
            quarantined=quarantined,
            now=_moment(now),
        )

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        return await self._change(consume.settle, settlements, now=_moment(now))

    async def report(self, reports: Sequence[Report], *, now: datetime | None = None) -> list[JobId]:
        return await self._change(consume.report, reports, now=_moment(now))

    async def beat(self, node: NodeId, *, busy: int = 0, now: datetime | None = None) -> Beat:
        return await self._change(consume.beat, node, busy=busy, now=_moment(now))

    # maintain

    async def promote(self, *, now: datetime | None = None) -> Promotion:
        return await self._change(maintain.promote, now=_moment(now))

    async def rescue(
        self, node: NodeId, *, beat: int, trusted: Collection[str] = (), now: datetime | None = None
    ) -> Rescue:
        return await self._change(maintain.rescue, node, beat=beat, trusted=trusted, now=_moment(now))

    async def expire(self, *, now: datetime | None = None) -> list[MovedJob]:
        return await self._change(maintain.expire, now=_moment(now))

    async def prune(self, retention: Retention, *, now: datetime | None = None) -> int:
        return await self._change(maintain.prune, retention, now=_moment(now))

    # schedules

    async def put_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> ScheduleEntry:
        return await self._change(schedules.put_schedule, schedule, now=_moment(now))

    async def pause_schedule(self, name: str, *, is_paused: bool, now: datetime | None = None) -> ScheduleEntry | None:
        return await self._change(schedules.pause_schedule, name, is_paused=is_paused, now=_moment(now))

    async def remove_schedule(self, name: str, *, is_remembered: bool = False) -> bool:
        return await self._change(schedules.remove_schedule, name, is_remembered=is_remembered)

    async def schedules(self, *, now: datetime | None = None) -> ScheduleBook:
        return await self._read(schedules.schedules, now=_moment(now))

    async def fire(self, firing: Firing, *, now: datetime | None = None) -> Fired | None:
        return await self._change(schedules.fire, firing, now=_moment(now))

    async def run_schedule(self, name: str, *, request_id: RequestId, now: datetime | None = None) -> RunNow | None:
        return await self._change(schedules.run_schedule, name, request_id=request_id, now=_moment(now))

    async def schedule_runs(self, name: str, *, limit: int = MAX_KEPT_RUNS) -> list[ScheduleRun]:
        return await self._read(schedules.schedule_runs, name, limit=limit)

    # control

    async def cancel(self, target: JobFilter, *, reason: str, now: datetime | None = None) -> list[MovedJob]:
        return await self._change(control.cancel, target, reason=reason, now=_moment(now))

    async def retry(self, target: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        return await self._change(control.retry, target, now=_moment(now))

    async def reschedule(
        self, job_id: JobId, *, due: datetime | timedelta | None, now: datetime | None = None
    ) -> Rescheduled | None:
        return await self._change(control.reschedule, job_id, due=due, now=_moment(now))

    async def delete(self, target: JobFilter) -> list[JobId]:
        return await self._change(control.delete, target, now=_moment(None))

    async def put_queue(self, settings: QueueSettings) -> None:
        await self._change(control.put_queue, settings)

    # look

    async def get(self, job_id: JobId) -> Job | None:
        return await self._read(look.get, job_id)

    async def find(self, query: JobQuery) -> JobList:
        return await self._read(look.find, query)

    async def find_ids(self, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
        return await self._read(look.find_ids, beginnings, limit=limit)

    async def statistics(self, *, now: datetime | None = None) -> Counts:
        return await self._read(look.statistics, now=_moment(now))

    async def service(self, queue: str, *, task: str, now: datetime | None = None) -> Service:
        return await self._read(look.service, queue, task=task, now=_moment(now))

    async def nodes(self) -> list[NodeRecord]:
        return await self._read(look.nodes)

    async def queues(self) -> list[QueueSettings]:
        return await self._read(look.queues)

    # wake: there are no hints, and the workers poll

    async def listen(self) -> AsyncIterator[Notification]:
        return
        yield  # so this is an iterator

    # steps

    async def _read(self, step: Callable[Concatenate[Document, _P], _T], *args: _P.args, **options: _P.kwargs) -> _T:
        def look_at_it() -> _T:
            with self._file.reading() as document:
                return step(document, *args, **options)

        return await asyncio.to_thread(look_at_it)

    async def _change(self, step: Callable[Concatenate[Document, _P], _T], *args: _P.args, **options: _P.kwargs) -> _T:
        def take_it() -> _T:
            with self._file.changing() as document:
                return step(document, *args, **options)

        return await asyncio.to_thread(take_it)


def _moment(now: datetime | None) -> datetime:
    return datetime.now(UTC) if now is None else now
