"""Schedules: the entries of the recurring tasks, and the history of each."""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import datetime
from itertools import islice

from msgspec.structs import replace

from deeper_tasks.backends.memory.job_table import JobTable
from deeper_tasks.domain.ids import JobId, RequestId
from deeper_tasks.domain.job import Insertion
from deeper_tasks.domain.schedule import (
    Fired,
    Firing,
    RunNow,
    Schedule,
    ScheduleBook,
    ScheduleEntry,
    registered,
    to_remember,
    with_pause,
)
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun, inserted, recorded, run_now
from deeper_tasks.domain.state import State


class Schedules:
    """The entries by name, and the newest runs of each, the newest last."""

    def __init__(self, jobs: JobTable) -> None:
        self._jobs = jobs
        self._entries: dict[str, ScheduleEntry] = {}
        self._removed: dict[str, Schedule] = {}
        self._runs: defaultdict[str, deque[ScheduleRun]] = defaultdict(lambda: deque(maxlen=MAX_KEPT_RUNS))

    def put(self, schedule: Schedule, *, now: datetime) -> ScheduleEntry:
        """Register or change an entry."""
        entry = self._entries[schedule.name] = registered(schedule, self._entries.get(schedule.name), now=now)
        self._removed.pop(schedule.name, None)
        return entry

    def pause(self, name: str, *, is_paused: bool, now: datetime) -> ScheduleEntry | None:
        """Hold an entry's runs, or let them go on."""
        entry = self._entries.get(name)
        if entry is not None:
            entry = self._entries[name] = with_pause(entry, is_paused=is_paused, now=now)
        return entry

    def remove(self, name: str, *, is_remembered: bool) -> bool:
        """Remove an entry with its history, if it is there, and remember its definition, if that is asked for."""
        self._runs.pop(name, None)
        entry = self._entries.pop(name, None)
        if not is_remembered:
            self._removed.pop(name, None)
        if (schedule := to_remember(entry, is_remembered=is_remembered)) is not None:
            self._removed[name] = schedule
        return entry is not None

    def book(self, *, now: datetime) -> ScheduleBook:
        """Return all entries, by name."""
        return ScheduleBook(
            now=now,
            entries=tuple(entry for _, entry in sorted(self._entries.items())),
            removed=tuple(schedule for _, schedule in sorted(self._removed.items())),
        )

    def fire(self, firing: Firing, *, now: datetime) -> Fired | None:
        """Insert an entry's jobs and move its next run, if that is due and all is as it was planned."""
        entry = self._entries.get(firing.name)
        if entry is None or not firing.fits(entry, now=now):
            return None
        runs = firing.runs_to_write(fired_before=self._fired_before(firing), is_under_way=self._is_under_way(entry))
        runs = inserted(runs, [self._jobs.add(run.job, now=now) for run in runs if run.job is not None])
        self._entries[firing.name] = firing.moved_on(entry, runs)
        fired = Fired(runs=recorded(runs, now=now))
        self._runs[firing.name].extend(fired.runs)
        return fired

    def run(self, name: str, *, request_id: RequestId, now: datetime) -> RunNow | None:
        """Insert a job of an entry now, apart from its due times."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        if request_id in self._jobs.records:
            return RunNow(entry=entry, job=Insertion(id=request_id, is_new=False))
        done = RunNow.of(entry, self._jobs.add(entry.schedule.job(request_id), now=now))
        self._runs[name].append(run_now(done.job, now=now))
        self._entries[name] = done.entry
        return done

    def runs(self, name: str, *, limit: int) -> list[ScheduleRun]:
        """Return the newest runs of an entry, each with its job's state now."""
        newest = islice(reversed(self._runs.get(name, ())), limit)
        return [replace(run, state=self._state_of(run.job)) for run in newest]

    def _state_of(self, job_id: JobId | None) -> State | None:
        record = None if job_id is None else self._jobs.records.get(job_id)
        return None if record is None else record.state

    def _fired_before(self, firing: Firing) -> frozenset[JobId]:
        noted = {run.job for run in self._runs.get(firing.name, ())}
        return frozenset(
            job.request_id for job in firing.jobs if job.request_id in noted or job.request_id in self._jobs.records
        )

    def _is_under_way(self, entry: ScheduleEntry) -> bool:
        made = (entry.last_job, *(run.job for run in self._runs.get(entry.schedule.name, ())))
        states = (self._state_of(job_id) for job_id in made)
        return any(state is not None and not state.is_terminal for state in states)
