"""The timetable: the entries of the recurring tasks."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from deeper_tasks.backends.memory.table import JobTable
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.schedule import Fired, Firing, Overlap, Schedule, ScheduleBook, ScheduleEntry, first_run


class Timetable:
    """The entries by name."""

    def __init__(self, jobs: JobTable) -> None:
        self._jobs = jobs
        self._entries: dict[str, ScheduleEntry] = {}

    def put(self, schedule: Schedule, *, now: datetime) -> ScheduleEntry:
        """Register or change an entry."""
        known = self._entries.get(schedule.name)
        next_run = first_run(schedule, known, now=now)
        if known is None:
            entry = ScheduleEntry(schedule=schedule, next_run=next_run)
        else:
            entry = replace(known, schedule=schedule, next_run=next_run)
        self._entries[schedule.name] = entry
        return entry

    def remove(self, name: str) -> bool:
        """Remove an entry, if it is there."""
        return self._entries.pop(name, None) is not None

    def book(self, *, now: datetime) -> ScheduleBook:
        """Return all entries, by name."""
        return ScheduleBook(now=now, entries=tuple(entry for _, entry in sorted(self._entries.items())))

    def fire(self, firing: Firing, *, now: datetime) -> Fired | None:
        """Insert an entry's jobs and move its next run, if that is due and still the expected one."""
        entry = self._entries.get(firing.name)
        if entry is None or entry.next_run != firing.expected or entry.paused_at is not None:
            return None
        if firing.is_repair:
            self._entries[firing.name] = replace(entry, next_run=firing.next_run)
            return Fired(jobs=())
        if firing.expected > now:
            return None
        made: tuple[JobId, ...] = ()
        last_run, last_job = firing.expected, entry.last_job
        if firing.jobs and not (firing.overlap is Overlap.SKIP and self._is_under_way(entry)):
            for job in firing.jobs:
                self._jobs.add(job, now=now)
            made = tuple(job.id for job in firing.jobs)
            last_run, last_job = firing.jobs[-1].due or firing.expected, firing.jobs[-1].id
        self._entries[firing.name] = replace(entry, next_run=firing.next_run, last_run=last_run, last_job=last_job)
        return Fired(jobs=made)

    def _is_under_way(self, entry: ScheduleEntry) -> bool:
        last = None if entry.last_job is None else self._jobs.records.get(entry.last_job)
        return last is not None and not last.state.is_terminal
