"""A proxy: a store that stands before another, and sees every call on its way there."""

# Each answer of the store behind is passed on as it is.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from deeper_tasks.backends.protocol import (
    Backend,
    Beat,
    Capabilities,
    Claim,
    Counts,
    JobFilter,
    JobList,
    JobQuery,
    Located,
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
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import Insertion, Job, NewJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import ScheduleRun
from deeper_tasks.domain.settlement import MovedJob, Report, Settled, Settlement

_BEYOND = ("announce", "begin", "compact", "diagnose", "fold", "migration_script", "walk")
"""The methods of the optional roles of a store, but for `Located`."""


class Proxy:
    """
    A `Backend` whose every call goes through `_pass_on`, which a subclass overrides.

    Keywords are passed on whatever they are, and so is what a store has beyond the protocol.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        # On the object: since Python 3.12 `isinstance` does not look for a method of a protocol by `__getattr__`.
        for name in _BEYOND:
            if hasattr(backend, name):
                setattr(self, name, partial(self._pass_on, name))
        if isinstance(backend, Located):
            self.location = backend.location

    def __repr__(self) -> str:
        return f"<{type(self).__name__} before {self.backend!r}>"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.backend, name)
        return partial(self._pass_on, name) if inspect.iscoroutinefunction(found) else found

    async def _pass_on(self, method: str, /, *args: Any, **options: Any) -> Any:
        return await getattr(self.backend, method)(*args, **options)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the store behind."""
        return self.backend.capabilities

    # life

    async def open(self, **options: Any) -> bool:
        return await self._pass_on("open", **options)

    async def close(self, **options: Any) -> None:
        await self._pass_on("close", **options)

    async def migrate(self, **options: Any) -> tuple[str, ...]:
        return await self._pass_on("migrate", **options)

    # produce

    async def insert(self, jobs: Sequence[NewJob], **options: Any) -> list[Insertion]:
        return await self._pass_on("insert", jobs, **options)

    # consume

    async def register(self, node: Node, **options: Any) -> None:
        await self._pass_on("register", node, **options)

    async def deregister(self, node: NodeId, **options: Any) -> None:
        await self._pass_on("deregister", node, **options)

    async def claim(self, queue: str | QueuePattern, **options: Any) -> Claim:
        return await self._pass_on("claim", queue, **options)

    async def settle(self, settlements: Sequence[Settlement], **options: Any) -> list[Settled]:
        return await self._pass_on("settle", settlements, **options)

    async def report(self, reports: Sequence[Report], **options: Any) -> list[JobId]:
        return await self._pass_on("report", reports, **options)

    async def beat(self, node: NodeId, **options: Any) -> Beat:
        return await self._pass_on("beat", node, **options)

    # maintain

    async def promote(self, **options: Any) -> Promotion:
        return await self._pass_on("promote", **options)

    async def rescue(self, node: NodeId, **options: Any) -> Rescue:
        return await self._pass_on("rescue", node, **options)

    async def expire(self, **options: Any) -> list[MovedJob]:
        return await self._pass_on("expire", **options)

    async def prune(self, retention: Retention, **options: Any) -> int:
        return await self._pass_on("prune", retention, **options)

    # schedules

    async def put_schedule(self, schedule: Schedule, **options: Any) -> ScheduleEntry:
        return await self._pass_on("put_schedule", schedule, **options)

    async def pause_schedule(self, name: str, **options: Any) -> ScheduleEntry | None:
        return await self._pass_on("pause_schedule", name, **options)

    async def run_schedule(self, name: str, **options: Any) -> RunNow | None:
        return await self._pass_on("run_schedule", name, **options)

    async def schedule_runs(self, name: str, **options: Any) -> list[ScheduleRun]:
        return await self._pass_on("schedule_runs", name, **options)

    async def remove_schedule(self, name: str, **options: Any) -> bool:
        return await self._pass_on("remove_schedule", name, **options)

    async def schedules(self, **options: Any) -> ScheduleBook:
        return await self._pass_on("schedules", **options)

    async def fire(self, firing: Firing, **options: Any) -> Fired | None:
        return await self._pass_on("fire", firing, **options)

    # control

    async def cancel(self, target: JobFilter, **options: Any) -> list[MovedJob]:
        return await self._pass_on("cancel", target, **options)

    async def retry(self, target: JobFilter, **options: Any) -> list[Retried]:
        return await self._pass_on("retry", target, **options)

    async def reschedule(self, job_id: JobId, **options: Any) -> Rescheduled | None:
        return await self._pass_on("reschedule", job_id, **options)

    async def delete(self, target: JobFilter, **options: Any) -> list[JobId]:
        return await self._pass_on("delete", target, **options)

    async def put_queue(self, settings: QueueSettings, **options: Any) -> None:
        await self._pass_on("put_queue", settings, **options)

    # look

    async def get(self, job_id: JobId, **options: Any) -> Job | None:
        return await self._pass_on("get", job_id, **options)

    async def find(self, query: JobQuery, **options: Any) -> JobList:
        return await self._pass_on("find", query, **options)

    async def find_ids(self, beginnings: Sequence[str], **options: Any) -> list[list[JobId]]:
        return await self._pass_on("find_ids", beginnings, **options)

    async def statistics(self, **options: Any) -> Counts:
        return await self._pass_on("statistics", **options)

    async def service(self, queue: str, **options: Any) -> Service:
        return await self._pass_on("service", queue, **options)

    async def nodes(self, **options: Any) -> list[NodeRecord]:
        return await self._pass_on("nodes", **options)

    async def queues(self, **options: Any) -> list[QueueSettings]:
        return await self._pass_on("queues", **options)

    # wake

    def listen(self, **options: Any) -> AsyncIterator[Notification]:
        return self.backend.listen(**options)
