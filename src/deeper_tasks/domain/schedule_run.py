"""A run of a recurring entry: one of its due times, as a firing plans it and as the history keeps it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Insertion, NewJob
from deeper_tasks.domain.state import State

MAX_KEPT_RUNS = 100
"""The number of runs of an entry that its history keeps, the newest."""


class RunOutcome(StrEnum):
    """The outcome of a run."""

    FIRED = "fired"
    """It made a job."""
    SKIPPED_OVERLAP = "skipped_overlap"
    """It made no job, because another of the entry had not ended and no two may overlap."""
    SKIPPED_UNIQUE = "skipped_unique"
    """It made no job, because another job held its unique key."""
    SKIPPED_MISSED = "skipped_missed"
    """It made no job, because it was found too late and the entry does not make up for missed runs."""
    RUN_NOW = "run_now"
    """A user asked for it, apart from the due times."""
    REPAIRED = "repaired"
    """It was impossibly far in the future (a clock was wrong) and was set back; it made no job."""
    UNREADABLE = "unreadable"
    """Its outcome cannot be read: the row of the history is damaged."""


class PlannedRun(Struct, frozen=True, kw_only=True):
    """
    A due time, and its planned outcome. It has a job only if it is to fire.

    `job_id` is the id of that job, once the store has inserted it.
    """

    due: datetime
    outcome: RunOutcome
    job: NewJob | None = None
    job_id: JobId | None = None


class ScheduleRun(Struct, frozen=True, kw_only=True):
    """
    A run as the history keeps it.

    `fired_at` is the time of the firing, by the store's clock. `state` is the state of the job when the history was
    read; None if there is no job, or no longer. `damage` lists the fields of the row that cannot be read.
    """

    due: datetime
    fired_at: datetime
    outcome: RunOutcome
    job: JobId | None = None
    state: State | None = None
    damage: tuple[Damage, ...] = ()


def inserted(runs: Sequence[PlannedRun], answers: Sequence[Insertion]) -> tuple[PlannedRun, ...]:
    """
    Return the runs after their jobs were inserted, with one answer for each run that has a job.

    A run whose job is not new made none: another job holds its unique key.
    """
    remaining = iter(answers)
    return tuple(run if run.job is None else _inserted(run, next(remaining)) for run in runs)


def run_now(job: Insertion, *, now: datetime) -> ScheduleRun:
    """Return a run apart from the due times as the history keeps it; `job` is the insertion of its job."""
    if job.is_new:
        return ScheduleRun(due=now, fired_at=now, outcome=RunOutcome.RUN_NOW, job=job.id)
    return ScheduleRun(due=now, fired_at=now, outcome=RunOutcome.SKIPPED_UNIQUE)


def recorded(runs: Collection[PlannedRun], *, now: datetime) -> tuple[ScheduleRun, ...]:
    """Return runs as the history keeps them."""
    return tuple(ScheduleRun(due=run.due, fired_at=now, outcome=run.outcome, job=run.job_id) for run in runs)


def _inserted(run: PlannedRun, answer: Insertion) -> PlannedRun:
    if answer.is_new:
        return replace(run, job_id=answer.id)
    return replace(run, outcome=RunOutcome.SKIPPED_UNIQUE, job=None)
