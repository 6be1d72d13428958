"""The events of recurring tasks."""

from __future__ import annotations

from datetime import datetime

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.schedule_run import RunOutcome
from deeper_tasks.integrations.events.event import Event


class ScheduleFired(Event, frozen=True, kw_only=True):
    """
    A recurring task was due. `jobs` is empty if all its runs were held back.

    `held_back` says why runs made no job: `skipped_overlap` (its last job has not ended), `skipped_unique`
    (another job holds its unique key), `skipped_missed`.
    """

    name: str
    jobs: tuple[JobId, ...]
    next_run: datetime | None = None
    held_back: tuple[RunOutcome, ...] = ()


class ScheduleRepaired(Event, frozen=True, kw_only=True):
    """The next run of a recurring task was too far ahead, as after a wrong clock, and was put back to `next_run`."""

    name: str
    was: datetime
    next_run: datetime


class SchedulePaused(Event, frozen=True, kw_only=True):
    """A recurring task was paused."""

    name: str


class ScheduleResumed(Event, frozen=True, kw_only=True):
    """A recurring task was resumed; it is due next at `next_run`."""

    name: str
    next_run: datetime


class ScheduleRemoved(Event, frozen=True, kw_only=True):
    """A recurring task was removed: by request, or, if `was_declared`, because the code no longer declares it."""

    name: str
    was_declared: bool = False


class ScheduleOrphaned(Event, frozen=True, kw_only=True):
    """A worker that has started does not know the task of a recurring task that code has declared."""

    name: str
    task: str
