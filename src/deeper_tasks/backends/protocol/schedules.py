"""Schedules: the role of keeping the entries of recurring tasks, and of firing each run once."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from deeper_tasks.domain.ids import RequestId
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun


class Schedules(Protocol):
    """A store that keeps schedules."""

    async def put_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> ScheduleEntry:
        """
        Register or change an entry. An unchanged recurrence keeps its next run; a pause is always kept.

        That it was removed is forgotten.
        """

    async def pause_schedule(self, name: str, *, is_paused: bool, now: datetime | None = None) -> ScheduleEntry | None:
        """
        Hold an entry's runs, or let them go on; return the entry, None if there is none.

        Runs that were due during the pause are not made up for: the next is the
        first after now. An entry that is paused already, or is not, stays as it is.
        """

    async def remove_schedule(self, name: str, *, is_remembered: bool = False) -> bool:
        """
        Remove an entry and its history; its jobs stay. False: there is none of this name.

        With `is_remembered`, the definition of an entry that the code declares is kept among
        `ScheduleBook.removed`, unless it cannot be read. Without, what was kept of this name before is forgotten too.
        """

    async def schedules(self, *, now: datetime | None = None) -> ScheduleBook:
        """Return all entries and the store's time."""

    async def fire(self, firing: Firing, *, now: datetime | None = None) -> Fired | None:
        """
        Insert an entry's jobs, move its next run and note its runs in the history.

        None, and nothing done: another worker fired it, it was changed in any way since the
        firing was planned, paused or removed, or it is not yet due by the store's clock.

        A run whose job is in the store or in the history already, with whatever
        content, has fired and is left out: so a clock that is set back fires nothing
        twice. A run whose unique key another job holds makes no job, and the history
        says so; of several, the first takes the key. Under `Overlap.SKIP` the run moves on without jobs while a
        job of the entry has not ended. The history keeps the newest `MAX_KEPT_RUNS`.
        """

    async def run_schedule(self, name: str, *, request_id: RequestId, now: datetime | None = None) -> RunNow | None:
        """
        Insert a job of an entry now and note it in the history; its due times and its pause stay.

        Returns the entry and what became of the job, None if there is no such entry. The same
        request again makes no second job; nor is there one while another job holds the entry's unique key.
        """

    async def schedule_runs(self, name: str, *, limit: int = MAX_KEPT_RUNS) -> list[ScheduleRun]:
        """Return the newest runs of an entry, the newest first, each with its job's state now."""
