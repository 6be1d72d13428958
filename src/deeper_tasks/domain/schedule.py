"""A schedule: the entry of a recurring task, and the rules that decide which of its runs fire."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from deeper_tasks.domain.cron import Recurrence
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.end_of_time import END_OF_TIME
from deeper_tasks.domain.ids import JobId, RequestId, derived_id
from deeper_tasks.domain.job import Insertion, JobSpec, NewJob
from deeper_tasks.domain.schedule_run import PlannedRun, RunOutcome, ScheduleRun
from deeper_tasks.domain.unique import Unique

MAX_MISSED_RUNS = 100
ON_TIME = timedelta(minutes=1)
"""A run that is found this late counts as on time: workers look every few seconds at most."""


class MissedRuns(StrEnum):
    """
    The policy for runs that were due while no worker was there.

    Under `Overlap.SKIP` no two of them can run at the same time, so `ALL` is the same as `ONCE` there.
    """

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Overlap(StrEnum):
    """The policy for a run that is due while a job of the entry, also one that was run by hand, has not ended."""

    ALLOW = "allow"
    SKIP = "skip"


class Schedule(Struct, frozen=True, kw_only=True):
    """
    The definition of a recurring task, under a unique name.

    Each of its jobs takes the key `unique`, if given; a run that finds the key held makes no job. `is_declared` marks
    a schedule that the code declares at its task: the workers put it into the store and remove it again.
    """

    name: str
    recurrence: Recurrence
    spec: JobSpec
    unique: Unique | None = None
    missed_runs: MissedRuns = MissedRuns.ONCE
    overlap: Overlap = Overlap.ALLOW
    is_declared: bool = False

    def job(self, request_id: RequestId, *, due: datetime | None = None) -> NewJob:
        """Return a new job of it, due at a time or at once."""
        return NewJob(request_id=request_id, spec=self.spec, due=due, unique=self.unique)


class ScheduleEntry(Struct, frozen=True, kw_only=True):
    """
    A schedule as the store keeps it. `next_run` is its next due time, by the store's clock; END_OF_TIME means never.

    `damage` lists the fields that cannot be read. An entry with damage fires nothing until it is registered again. If
    its document cannot be read, the schedule has only its name.
    """

    schedule: Schedule
    next_run: datetime
    last_run: datetime | None = None
    last_job: JobId | None = None
    paused_at: datetime | None = None
    damage: tuple[Damage, ...] = ()


class ScheduleBook(Struct, frozen=True, kw_only=True):
    """
    All entries, by name, and the store's time when they were read.

    `removed` has the definitions of the entries that were removed while the code declared them, by name.
    """

    now: datetime
    entries: tuple[ScheduleEntry, ...]
    removed: tuple[Schedule, ...] = ()


class Firing(Struct, frozen=True, kw_only=True):
    """
    One step of an entry: write `runs`, oldest first, and move its next run from `expected` to `next_run`.

    It applies only to the schedule that it was planned for. `is_repair`: the next run was impossibly far in the future
    and is set back, without a job.
    """

    schedule: Schedule
    expected: datetime
    next_run: datetime
    runs: tuple[PlannedRun, ...]
    is_repair: bool = False

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.schedule.name

    @property
    def jobs(self) -> tuple[NewJob, ...]:
        """The jobs that it is to make."""
        return tuple(run.job for run in self.runs if run.job is not None)

    def fits(self, entry: ScheduleEntry, *, now: datetime) -> bool:
        """Return whether the entry is unchanged since the firing was planned, and due by this clock."""
        if entry.damage:
            return False
        is_same = entry.schedule == self.schedule and entry.next_run == self.expected and entry.paused_at is None
        return is_same and (self.is_repair or self.expected <= now)

    def moved_on(self, entry: ScheduleEntry, runs: Sequence[PlannedRun]) -> ScheduleEntry:
        """Return the entry after `runs` were written; its last job is the newest that they made, if any."""
        made = [run for run in runs if run.job is not None]
        if not made:
            return replace(entry, next_run=self.next_run)
        return replace(entry, next_run=self.next_run, last_run=made[-1].due, last_job=made[-1].job_id)

    def runs_to_write(self, *, fired_before: Collection[JobId], is_under_way: bool) -> tuple[PlannedRun, ...]:
        """
        Return the runs to write.

        A run that has fired already is left out: a clock that was set back makes it due again. If jobs of the entry may
        not overlap, and one of them has not ended (`is_under_way`), no run fires.
        """
        fresh = (run for run in self.runs if run.job is None or run.job.request_id not in fired_before)
        if self.schedule.overlap is Overlap.SKIP and is_under_way:
            return tuple(run if run.job is None else _held_back(run) for run in fresh)
        return tuple(fresh)


class Fired(Struct, frozen=True, kw_only=True):
    """The result of a firing: the runs that it wrote into the history."""

    runs: tuple[ScheduleRun, ...] = ()

    @property
    def jobs(self) -> tuple[JobId, ...]:
        """The jobs that it made. There are none if a policy held them back."""
        return tuple(run.job for run in self.runs if run.job is not None)


class RunNow(Struct, frozen=True, kw_only=True):
    """The result of a run apart from the due times: the entry after it, and the insertion of its job."""

    entry: ScheduleEntry
    job: Insertion

    @classmethod
    def of(cls, entry: ScheduleEntry, job: Insertion) -> RunNow:
        """Return the result for an entry as it was before."""
        return cls(entry=replace(entry, last_job=job.id) if job.is_new else entry, job=job)


def registered(schedule: Schedule, known: ScheduleEntry | None, *, now: datetime) -> ScheduleEntry:
    """
    Return the entry of a schedule that is put at `now`, in place of the one known by its name.

    An unchanged recurrence keeps its next run; a changed one starts after both now and the last run. Of a damaged
    entry nothing is kept but that it is paused.

    Raises:
        InvalidOptionError: the recurrence has a fault.
    """
    next_run = first_run(schedule, known, now=now)
    if known is None:
        return ScheduleEntry(schedule=schedule, next_run=next_run)
    if known.damage:
        paused_at = None if known.paused_at is None else now
        return ScheduleEntry(schedule=schedule, next_run=next_run, paused_at=paused_at)
    return replace(known, schedule=schedule, next_run=next_run)


def with_pause(entry: ScheduleEntry, *, is_paused: bool, now: datetime) -> ScheduleEntry:
    """Return an entry, paused or resumed at `now`. An entry that is so already, or is damaged, stays as it is."""
    if entry.damage or (entry.paused_at is not None) == is_paused:
        return entry
    if is_paused:
        return replace(entry, paused_at=now)
    return replace(entry, paused_at=None, next_run=resumed_run(entry, now=now))


def to_remember(entry: ScheduleEntry | None, *, is_remembered: bool) -> Schedule | None:
    """Return the definition to keep of a removed entry: None unless the code declares it and `is_remembered` is set."""
    return entry.schedule if is_remembered and entry is not None and entry.schedule.is_declared else None


def first_run(schedule: Schedule, known: ScheduleEntry | None, *, now: datetime) -> datetime:
    """
    Return the next run of an entry that is put at `now`; see `registered`.

    Raises:
        InvalidOptionError: its recurrence has a fault.
    """
    if known is None or known.damage:
        return _next_run(schedule.recurrence, after=now)
    if known.schedule.recurrence == schedule.recurrence:
        return known.next_run
    return _next_run(schedule.recurrence, after=max(now, known.last_run or now))


def resumed_run(entry: ScheduleEntry, *, now: datetime) -> datetime:
    """
    Return the next run of an entry whose pause ends at `now`: the first one later than that, in its rhythm.

    An entry whose recurrence has a fault keeps its next run.
    """
    recurrence = entry.schedule.recurrence
    if recurrence.fault is not None:
        return entry.next_run
    return _next_run(recurrence, after=recurrence.anchored(now, entry.next_run))


def plan_firing(entry: ScheduleEntry, *, now: datetime) -> Firing | None:
    """
    Return the firing of an entry at `now`; None if it is paused, damaged or not due.

    Raises:
        InvalidOptionError: the recurrence has a fault, so it is never due.
    """
    if entry.paused_at is not None or entry.damage or now >= END_OF_TIME:
        return None
    schedule = entry.schedule
    if entry.next_run > now:
        return _repair(entry, now)
    due = _due_runs(entry, now)
    chosen = frozenset(_chosen(schedule, due, now))
    left_out = _outcome_of_the_others(schedule)
    return Firing(
        schedule=schedule,
        expected=entry.next_run,
        next_run=_next_run(schedule.recurrence, after=due[-1]),
        runs=tuple(
            PlannedRun(due=run, outcome=RunOutcome.FIRED, job=schedule.job(derived_id(schedule.name, run), due=run))
            if run in chosen
            else PlannedRun(due=run, outcome=left_out)
            for run in due
        ),
    )


def _repair(entry: ScheduleEntry, now: datetime) -> Firing | None:
    first = _next_run(entry.schedule.recurrence, after=now)
    if entry.next_run <= _next_run(entry.schedule.recurrence, after=first):
        return None
    return Firing(
        schedule=entry.schedule,
        expected=entry.next_run,
        next_run=first,
        runs=(PlannedRun(due=entry.next_run, outcome=RunOutcome.REPAIRED),),
        is_repair=True,
    )


def _next_run(recurrence: Recurrence, *, after: datetime) -> datetime:
    return recurrence.next_after(after) or END_OF_TIME


def _due_runs(entry: ScheduleEntry, now: datetime) -> list[datetime]:
    """
    Return the due times of an entry up to now, oldest first, at most the newest `MAX_MISSED_RUNS`.

    It looks back from now in windows that double. So an entry of every second is planned as fast after a month without
    workers as after a minute.
    """
    recurrence = entry.schedule.recurrence
    window = timedelta(minutes=1)
    while True:
        start = max(entry.next_run, recurrence.anchored(now - min(window, now - entry.next_run), entry.next_run))
        runs = [start] if start == entry.next_run else []
        following = _next_run(recurrence, after=start)
        while following <= now:
            runs.append(following)
            following = _next_run(recurrence, after=following)
        if start == entry.next_run or len(runs) >= MAX_MISSED_RUNS:
            return runs[-MAX_MISSED_RUNS:]
        window *= 2


def _chosen(schedule: Schedule, due: list[datetime], now: datetime) -> list[datetime]:
    if schedule.missed_runs is MissedRuns.ALL and schedule.overlap is Overlap.ALLOW:
        return due
    newest = due[-1]
    is_missed = now - newest > ON_TIME
    return [] if schedule.missed_runs is MissedRuns.SKIP and is_missed else [newest]


def _outcome_of_the_others(schedule: Schedule) -> RunOutcome:
    return RunOutcome.SKIPPED_OVERLAP if schedule.missed_runs is MissedRuns.ALL else RunOutcome.SKIPPED_MISSED


def _held_back(run: PlannedRun) -> PlannedRun:
    return replace(run, outcome=RunOutcome.SKIPPED_OVERLAP, job=None)
