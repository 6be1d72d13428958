"""A store snapshot: all data that the checks use, read from the store once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, Role, SortKey
from deeper_tasks.config import Settings
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.schedule import ScheduleBook
from deeper_tasks.domain.state import WAITING, State
from deeper_tasks.manager.overview import Overview, QueueOverview, to_overview
from deeper_tasks.tasks import TaskRegistry

MOST_READ = 1_000
"""Jobs of a kind that are looked at, one by one, at most."""
_MOST_ASKED = 50
"""The number of tasks, those with the most jobs first, for which the store is asked which workers know them."""


class StoreSnapshot(Struct, frozen=True, kw_only=True):
    """
    The jobs, queues and workers of a store. It has at most `MOST_READ` running and `MOST_READ` waiting jobs.

    `oldest` has the pending job that has been due for longest, by queue; `next_due` is the first job that is scheduled
    or waits for a retry, `newest` the job inserted last. `knowing` maps each task of a waiting job or a recurring entry
    to the workers that registered their tasks, with whether each of them knows it.
    """

    settings: Settings
    registry: TaskRegistry
    overview: Overview
    book: ScheduleBook
    has_schedules: bool = True
    oldest: dict[str, Job]
    running: tuple[Job, ...]
    waiting: tuple[Job, ...]
    next_due: Job | None
    newest: Job | None
    knowing: dict[str, dict[NodeId, bool]] = {}

    @property
    def now(self) -> datetime:
        """The store's time."""
        return self.overview.now


async def look_around(backend: Backend, *, settings: Settings, registry: TaskRegistry) -> StoreSnapshot:
    """Read the snapshot from an open store."""

    async def find(states: set[State], *, queue: str | None = None, limit: int = MOST_READ) -> tuple[Job, ...]:
        wanted = JobFilter(states=frozenset(states), queue=queue)
        query = JobQuery(filter=wanted, sort_by=SortKey.SCHEDULED_AT, is_descending=False, limit=limit)
        return (await backend.find(query)).jobs

    overview = to_overview(await backend.statistics(), lease=timedelta(seconds=settings.lease_seconds))
    oldest = {
        queue.name: job
        for queue in overview.queues
        if queue.pending
        for job in await find({State.PENDING}, queue=queue.name, limit=1)
    }
    is_idle = not any(map(_has_work, overview.queues))
    newest = await backend.find(JobQuery(limit=1))
    has_schedules = Role.SCHEDULES in backend.capabilities.roles
    book = await backend.schedules() if has_schedules else ScheduleBook(now=overview.now, entries=())
    waiting = () if is_idle else await find(set(WAITING))
    return StoreSnapshot(
        settings=settings,
        registry=registry,
        overview=overview,
        book=book,
        has_schedules=has_schedules,
        oldest=oldest,
        running=() if is_idle else await find({State.RUNNING}),
        waiting=waiting,
        next_due=next(iter(() if is_idle else await find({State.SCHEDULED, State.RETRYABLE}, limit=1)), None),
        newest=next(iter(newest.jobs), None),
        knowing=await _knowing(backend, waiting, book) if any(each.is_alive for each in overview.workers) else {},
    )


async def _knowing(backend: Backend, waiting: Iterable[Job], book: ScheduleBook) -> dict[str, dict[NodeId, bool]]:
    """Ask which workers know the tasks."""
    tasks = Counter(job.task for job in waiting)
    tasks.update(entry.schedule.spec.task for entry in book.entries)
    # The tasks that a worker knows are the same for all queues.
    return {task: (await backend.service("", task=task)).knows_task for task, _ in tasks.most_common(_MOST_ASKED)}


def _has_work(queue: QueueOverview) -> bool:
    return bool(queue.pending or queue.running or queue.later)
