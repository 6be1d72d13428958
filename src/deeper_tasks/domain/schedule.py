"""A schedule: the entry of a recurring task, and the rules for which of its runs fire."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from deeper_tasks.domain.cron import Recurrence
from deeper_tasks.domain.ids import JobId, derived_id
from deeper_tasks.domain.job import JobSpec, NewJob

MAX_MISSED_RUNS = 100
ON_TIME = timedelta(minutes=1)
"""A run found this late was not missed: workers look at most every few seconds."""


class MissedRuns(StrEnum):
    """What becomes of runs that were due while no worker was there."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a run that is due while the entry's last job has not ended."""

    ALLOW = "allow"
    SKIP = "skip"


class Schedule(Struct, frozen=True, kw_only=True):
    """The definition of a recurring task, under a unique name."""

    name: str
    recurrence: Recurrence
    spec: JobSpec
    missed_runs: MissedRuns = MissedRuns.ONCE
    overlap: Overlap = Overlap.ALLOW


class ScheduleEntry(Struct, frozen=True, kw_only=True):
    """A schedule as the store keeps it. `next_run` is when it fires next, by the store's clock."""

    schedule: Schedule
    next_run: datetime
    last_run: datetime | None = None
    last_job: JobId | None = None
    paused_at: datetime | None = None


class ScheduleBook(Struct, frozen=True, kw_only=True):
    """All entries, by name, and the store's time when they were read."""

    now: datetime
    entries: tuple[ScheduleEntry, ...]


class Firing(Struct, frozen=True, kw_only=True):
    """
    One step of an entry: insert `jobs` and move its next run from `expected` to `next_run`.

    `is_repair` marks a next run that lay impossibly far ahead, put back without a job.
    """

    name: str
    expected: datetime
    next_run: datetime
    jobs: tuple[NewJob, ...]
    overlap: Overlap
    is_repair: bool = False


class Fired(Struct, frozen=True, kw_only=True):
    """What a firing did: the jobs it made. None where the overlap policy held them back."""

    jobs: tuple[JobId, ...]


def first_run(schedule: Schedule, known: ScheduleEntry | None, *, now: datetime) -> datetime:
    """
    Return the next run of an entry that is being registered at `now`.

    An unchanged one keeps its next run; a changed one starts after both now and its last run.
    """
    if known is None:
        return schedule.recurrence.next_after(now)
    if known.schedule.recurrence == schedule.recurrence:
        return known.next_run
    return schedule.recurrence.next_after(max(now, known.last_run or now))


def plan_firing(entry: ScheduleEntry, *, now: datetime) -> Firing | None:
    """Return what is to be done about an entry at `now`; None when it is paused or not due."""
    if entry.paused_at is not None:
        return None
    schedule = entry.schedule
    if entry.next_run > now:
        return _repair(entry, now)
    due = _due_runs(entry, now)
    return Firing(
        name=schedule.name,
        expected=entry.next_run,
        next_run=schedule.recurrence.next_after(due[-1]),
        jobs=tuple(_job(schedule, run) for run in _chosen(schedule.missed_runs, due, now)),
        overlap=schedule.overlap,
    )


def _repair(entry: ScheduleEntry, now: datetime) -> Firing | None:
    first, second = entry.schedule.recurrence.next_runs(2, after=now)
    if entry.next_run <= second:
        return None
    return Firing(
        name=entry.schedule.name,
        expected=entry.next_run,
        next_run=first,
        jobs=(),
        overlap=entry.schedule.overlap,
        is_repair=True,
    )


def _due_runs(entry: ScheduleEntry, now: datetime) -> list[datetime]:
    """
    The entry's runs up to now, oldest first, at most the newest `MAX_MISSED_RUNS` of them.

    Looks back from now in windows that double, so that an entry of every second
    is planned as fast after a month of absence as after a minute.
    """
    recurrence = entry.schedule.recurrence
    window = timedelta(minutes=1)
    while True:
        start = max(entry.next_run, recurrence.anchored(now - window, entry.next_run))
        runs = [start] if start == entry.next_run else []
        following = recurrence.next_after(start)
        while following <= now:
            runs.append(following)
            following = recurrence.next_after(following)
        if start == entry.next_run or len(runs) >= MAX_MISSED_RUNS:
            return runs[-MAX_MISSED_RUNS:]
        window *= 2


def _chosen(policy: MissedRuns, due: list[datetime], now: datetime) -> list[datetime]:
    if policy is MissedRuns.ALL:
        return due
    newest = due[-1]
    is_missed = now - newest > ON_TIME
    return [] if policy is MissedRuns.SKIP and is_missed else [newest]


def _job(schedule: Schedule, run: datetime) -> NewJob:
    return NewJob(id=derived_id(schedule.name, run), spec=schedule.spec, due=run)
