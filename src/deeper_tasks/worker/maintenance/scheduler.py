"""The scheduler: the role that puts declared recurring tasks into the store and fires all that are due."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.damage import described
from deeper_tasks.domain.schedule import Firing, ScheduleEntry, plan_firing
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.integrations.events import EventBus, ScheduleFired, ScheduleRepaired
from deeper_tasks.worker.collaborators import Declare
from deeper_tasks.worker.settings import WorkerSettings

_logger = logging.getLogger("deeper_tasks")

_AT_ONCE = timedelta(0)


class Scheduler:
    """
    Fires the recurring tasks that are due, after it has had the declared ones registered once.

    An entry that cannot be fired here is logged once until it can be fired, and does not hold up the others.
    """

    def __init__(
        self, *, backend: Backend, settings: WorkerSettings, bus: EventBus, declare: Declare | None = None
    ) -> None:
        self._backend = backend
        self._longest = settings.poll_interval
        self._bus = bus
        self._declare = declare
        self._is_to_declare = declare is not None
        self._may_be_new = False
        self._failing: set[str] = set()

    async def turn(self) -> timedelta:
        """Fire what is due; sleeps until the next run."""
        if self._is_to_declare:
            await self._register_declared()
        book = await self._backend.schedules()
        if self._may_be_new:
            self._may_be_new = False
            if not book.entries and self._declare is not None:
                self._is_to_declare = True
                return _AT_ONCE
        self._failing &= {entry.schedule.name for entry in book.entries}
        pauses = [await self._attend(entry, now=book.now) for entry in book.entries]
        return min(pauses, default=self._longest)

    def expect_new_store(self) -> None:
        """
        Have the declared entries registered once more if the store has none, because it may have been made anew.

        A store with entries is left as it is: a newer version of the application may have declared them differently.
        """
        self._may_be_new = True

    async def _register_declared(self) -> None:
        assert self._declare is not None
        try:
            await self._declare()
        except BackendUnavailableError:
            raise
        except Exception:
            _logger.exception("recurring tasks of the application could not be registered; the others go on")
        self._is_to_declare = False

    async def _attend(self, entry: ScheduleEntry, *, now: datetime) -> timedelta:
        """Fire one entry if it is due; returns when it wants to be looked at again."""
        name = entry.schedule.name
        if entry.damage:
            if name not in self._failing:
                _logger.error(
                    "the recurring task %r cannot be read (%s) and fires nothing until it is registered again; "
                    "the others go on",
                    name,
                    described(entry.damage),
                )
            self._failing.add(name)
            return self._longest
        try:
            firing = plan_firing(entry, now=now)
            if firing is not None:
                await self._fire(firing)
        except BackendUnavailableError:
            raise
        except Exception:
            # For example, this machine may not know the time zone.
            if name not in self._failing:
                _logger.exception("the recurring task %r cannot be fired here; the others go on", name)
            self._failing.add(name)
            return self._longest
        self._failing.discard(name)
        if firing is not None:
            return _AT_ONCE
        return self._longest if entry.paused_at is not None else min(self._longest, entry.next_run - now)

    async def _fire(self, firing: Firing) -> None:
        fired = await self._backend.fire(firing)
        if fired is None:
            return
        if firing.is_repair:
            self._bus.emit(ScheduleRepaired(name=firing.name, was=firing.expected, next_run=firing.next_run))
        elif fired.runs:
            # Each outcome once, in the order of the runs.
            held_back = tuple(dict.fromkeys(run.outcome for run in fired.runs if run.job is None))
            self._bus.emit(
                ScheduleFired(name=firing.name, jobs=fired.jobs, next_run=firing.next_run, held_back=held_back)
            )
