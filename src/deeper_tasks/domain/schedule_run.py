"""A run of a recurring entry: one of its due times, as a firing plans it and as the history keeps it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import NewJob
from deeper_tasks.domain.state import State

MAX_KEPT_RUNS = 100
"""The newest runs of an entry that its history keeps."""


class RunOutcome(StrEnum):
    """What became of a run."""

    FIRED = "fired"
    """It made a job."""
    SKIPPED_OVERLAP = "skipped_overlap"
    """It made none, because a job of the entry had not ended and none may overlap."""
    SKIPPED_MISSED = "skipped_missed"
    """It made none, because it was found too late and the entry does not make up for it."""
    RUN_NOW = "run_now"
    """Somebody asked for it, apart from the due times."""
    REPAIRED = "repaired"
    """It lay impossibly far ahead (a clock was wrong) and was put back; it made no job."""


class PlannedRun(Struct, frozen=True, kw_only=True):
    """A due time, and what a firing means to do about it. It has a job only if it is to fire."""

    due: datetime
    outcome: RunOutcome
    job: NewJob | None = None


class ScheduleRun(Struct, frozen=True, kw_only=True):
    """
    A run as the history keeps it.

    `fired_at` is when a worker dealt with it, by the store's clock. `state` is
    the job's when the history was read: None without a job, and when it is no
    longer there.
    """

    due: datetime
    fired_at: datetime
    outcome: RunOutcome
    job: JobId | None = None
    state: State | None = None
