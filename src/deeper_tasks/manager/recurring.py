"""Recurring tasks: register, pause, run and remove the entries of a manager."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from deeper_tasks.backends.protocol import Backend, Role
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.damage import described
from deeper_tasks.domain.job import JobSpec
from deeper_tasks.domain.queue_patterns import ServedQueues
from deeper_tasks.domain.schedule import MissedRuns, Overlap, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import DamagedError, InvalidOptionError, ScheduleNotFoundError, TaskNotFoundError
from deeper_tasks.integrations.events import (
    EventBus,
    JobEnqueued,
    ScheduleOrphaned,
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
)
from deeper_tasks.manager.input_checks import is_whole
from deeper_tasks.manager.jobs import AnyTask, JobFactory, to_unique
from deeper_tasks.manager.store_terms import StoreTerms
from deeper_tasks.tasks import JobRequest, TaskId, TaskRegistry, TaskSchedule, parse_policy

_LONGEST_NAME = 200


class RecurringTasks:
    """
    The operations on the entries of recurring tasks.

    Where an entry must be there, ScheduleNotFoundError; where it must be sound too, DamagedError.
    """

    def __init__(self, *, backend: Backend, jobs: JobFactory, bus: EventBus, terms: StoreTerms) -> None:
        self._store = backend
        self._terms = terms
        self._jobs = jobs
        self._bus = bus

    @property
    def _backend(self) -> Backend:
        """The store. Raises UnsupportedError if it keeps no schedules."""
        self._terms.require(Role.SCHEDULES, "this is about recurring tasks")
        return self._store

    async def book(self) -> ScheduleBook:
        """Return all entries, and those that were removed."""
        return await self._backend.schedules()

    def spec(self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any], request: JobRequest) -> JobSpec:
        """Return the content of an entry's jobs. Raises InvalidOptionError for an option that is for one job only."""
        _refuse_per_job_options(request)
        return self._jobs.spec(task, args, kwargs, request)

    async def put(self, name: str, spec: JobSpec, *, unique: Unique | None, times: TaskSchedule) -> ScheduleEntry:
        """Register a recurring task, or update the entry of this name."""
        return await self._backend.put_schedule(
            Schedule(
                name=_checked_name(name),
                recurrence=times.recurrence,
                spec=spec,
                unique=unique,
                missed_runs=times.missed_runs,
                overlap=times.overlap,
            )
        )

    async def declare(self, registry: TaskRegistry, *, queues: Collection[str]) -> list[ScheduleEntry]:
        """Bring the entries that code declares into agreement with a registry; see the facade."""
        declared = {task.name: self._declared(task, task.schedule) for task in registry if task.schedule is not None}
        book = await self._backend.schedules()
        known = {entry.schedule.name: entry for entry in book.entries}
        removed = {schedule.name: schedule for schedule in book.removed}
        changed = [
            schedule
            for name, schedule in declared.items()
            if not _is_as(known.get(name), schedule) and removed.get(name) != schedule
        ]
        for schedule in changed:
            known[schedule.name] = await self._backend.put_schedule(schedule)
        for name, entry in known.items():
            if entry.schedule.is_declared and name not in declared:
                await self._retire(entry.schedule, registry, queues)
        for name in removed.keys() - declared.keys():
            if _is_known(removed[name].spec.task, registry):
                # Declared no more: should it be declared again one day, that is news.
                await self._backend.remove_schedule(name)
        return [known[name] for name in sorted(declared) if name in known]

    def _declared(self, task: AnyTask, schedule: TaskSchedule) -> Schedule:
        spec = self._jobs.spec(task, (), {}, task.request)
        return Schedule(
            name=task.name,
            recurrence=schedule.recurrence,
            spec=spec,
            unique=to_unique(spec, task.request),
            missed_runs=schedule.missed_runs,
            overlap=schedule.overlap,
            is_declared=True,
        )

    async def _retire(self, schedule: Schedule, registry: TaskRegistry, queues: Collection[str]) -> None:
        """Remove an entry whose task is here without it. Whose task is not here may be another application's."""
        name, task = schedule.name, schedule.spec.task
        if _is_known(task, registry):
            if await self._backend.remove_schedule(name):
                self._bus.emit(ScheduleRemoved(name=name, was_declared=True))
        elif schedule.spec.queue in ServedQueues(queues):
            self._bus.emit(ScheduleOrphaned(name=name, task=task))

    async def entry(self, name: str) -> ScheduleEntry:
        """Return one entry."""
        for entry in (await self._backend.schedules()).entries:
            if entry.schedule.name == name:
                return entry
        raise _not_found(name)

    async def pause(self, name: str) -> ScheduleEntry:
        """Hold an entry's runs."""
        entry = _sound(name, await self._backend.pause_schedule(_known(name), is_paused=True))
        self._bus.emit(SchedulePaused(name=name))
        return entry

    async def resume(self, name: str) -> ScheduleEntry:
        """Let an entry's runs go on, or bring one back that was removed while the code declared it."""
        entry = await self._backend.pause_schedule(_known(name), is_paused=False)
        if entry is None:
            entry = await self._bring_back(name)
        entry = _sound(name, entry)
        self._bus.emit(ScheduleResumed(name=name, next_run=entry.next_run))
        return entry

    async def _bring_back(self, name: str) -> ScheduleEntry | None:
        for schedule in (await self._backend.schedules()).removed:
            if schedule.name == name:
                return await self._backend.put_schedule(schedule)
        return None

    async def remove(self, name: str) -> None:
        """Remove an entry with its history, for good: also one that the code declares, until it declares another."""
        if not await self._backend.remove_schedule(_known(name), is_remembered=True):
            raise _not_found(name)
        self._bus.emit(ScheduleRemoved(name=name))

    async def run_now(self, name: str) -> TaskId:
        """Enqueue an entry's job now, apart from its times; returns the job that holds its unique key, if one does."""
        request_id = self._jobs.ids.next(time.time_ns())
        done = await self._backend.run_schedule(_known(name), request_id=request_id)
        if done is None:
            raise _not_found(name)
        spec, job = _sound(name, done.entry).schedule.spec, done.job
        self._bus.emit(JobEnqueued(job_id=job.id, task=spec.task, queue=spec.queue, is_new=job.is_new))
        return TaskId(job.id, is_new=job.is_new)

    async def history(self, name: str, *, limit: int) -> list[ScheduleRun]:
        """Return an entry's newest runs."""
        most = _checked_limit(limit)
        await self.entry(name)
        return await self._backend.schedule_runs(name, limit=most)


def parse_times(
    cron_expression: str, *, timezone: str | None, missed_runs: str | None, overlap: str | None
) -> TaskSchedule:
    """Return the times of a recurring task; None means the default. Raises InvalidOptionError."""
    return TaskSchedule(
        recurrence=parse_recurrence(cron_expression, "UTC" if timezone is None else timezone),
        missed_runs=parse_policy(MissedRuns, "missed_runs", missed_runs, default=MissedRuns.ONCE),
        overlap=parse_policy(Overlap, "overlap", overlap, default=Overlap.ALLOW),
    )


def _sound(name: str, entry: ScheduleEntry | None) -> ScheduleEntry:
    if entry is None:
        raise _not_found(name)
    if entry.damage:
        raise DamagedError(
            f"the recurring task {name!r} cannot be read in the store ({described(entry.damage)}); register it again, "
            "or remove it"
        )
    return entry


def _known(name: object) -> str:
    if isinstance(name, str) and is_whole(name):
        return name
    raise _not_found(name)


def _not_found(name: object) -> ScheduleNotFoundError:
    return ScheduleNotFoundError(f"no recurring task has the name {name!r}")


def _is_as(entry: ScheduleEntry | None, schedule: Schedule) -> bool:
    # A damaged one is put right by being registered again.
    return entry is not None and entry.schedule == schedule and not entry.damage


def _is_known(task: str, registry: TaskRegistry) -> bool:
    try:
        return registry.resolve_for_run(task) is not None
    except TaskNotFoundError:
        return False


def _checked_name(name: object) -> str:
    if isinstance(name, str) and name.strip() and len(name) <= _LONGEST_NAME and name.isprintable():
        return name
    raise InvalidOptionError(
        f"the name {name!r} of a recurring task cannot be used; give 1 to {_LONGEST_NAME} printable characters"
    )


def _checked_limit(limit: object) -> int:
    if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
        return min(limit, MAX_KEPT_RUNS)
    raise InvalidOptionError(f"option 'limit' cannot be {limit!r}: give a whole number, from 1 up")


def _refuse_per_job_options(request: JobRequest) -> None:
    given = {
        "task_id": request.task_id is not None,
        "delay_seconds": request.delay is not None,
        "enqueue_patience_seconds": request.patience is not None,
        "connection": request.connection is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise InvalidOptionError(f"option {option!r} is for one job, and a recurring task makes many; leave it out")
