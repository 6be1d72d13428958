"""A manual clock: time that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from deeper_tasks.domain.ids import JobId
from deeper_tasks.errors import DeeperTasksError, JobError
from deeper_tasks.tasks import current_job

real_sleep = asyncio.sleep
"""The real `asyncio.sleep`: a test may put the clock's in its place."""


class ClockError(DeeperTasksError, ValueError):
    """A clock was asked for a time that it cannot show."""


class ManualClock:
    """
    A clock for a store (`now`) and for a worker (the rest), which only `move` moves.

    `random` always returns `chance`; with 0.5 the jitter of a retry is 0.
    Safe to use from several threads and event loops.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self.chance = 0.5
        self._start = self._now = _aware(start or datetime.now(UTC))
        self._lock = threading.Lock()
        self._sleepers: list[_Sleeper] = []
        self._watchers: list[Callable[[], object]] = []
        self._followers: list[Callable[[datetime], object]] = []

    def __repr__(self) -> str:
        return f"<ManualClock {self._now.isoformat()}>"

    def now(self) -> datetime:
        """Return the time of this clock, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds since this clock was made."""
        return (self._now - self._start).total_seconds()

    def random(self) -> float:
        """Return `chance`."""
        return self.chance

    def move(self, to: datetime) -> None:
        """
        Show this time from now on, and wake the coroutines that slept until then.

        Raises:
            ClockError: the time is earlier than the clock's.
        """
        to = _aware(to)
        if to < self._now:
            raise ClockError(f"the clock shows {self._now.isoformat()} and does not go back to {to.isoformat()}")
        with self._lock:
            self._now = to
            due = [sleeper for sleeper in self._sleepers if sleeper.due <= to]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper.due > to]
        for follower in self._followers:
            follower(to)
        for sleeper in due:
            sleeper.wake()

    def on_move(self, follower: Callable[[datetime], object]) -> None:
        """
        Call `follower` with each time that the clock is moved to.

        So a library that fakes `datetime.now()` keeps step: `clock.on_move(frozen_time.move_to)`.
        """
        self._followers.append(follower)

    async def sleep(self, seconds: float | None, *, until: asyncio.Event) -> None:
        """Return after `seconds` of this clock, or earlier when the event is set; None: when the event is set."""
        if seconds is None:
            await until.wait()
            return
        due = self._now + timedelta(seconds=max(0.0, seconds))
        try:
            async with asyncio.timeout(0 if due <= self._now else None) as alarm:
                with self._asleep(due, lambda: alarm.reschedule(0)):
                    await until.wait()
        except TimeoutError:
            return

    async def pass_time(self, seconds: float | timedelta) -> None:
        """
        Take this long, by this clock: for the code of a job, and what it calls.

        Outside of a job it is `asyncio.sleep`: nothing would move the clock there.
        """
        delay = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
        job = _current_id()
        if job is None or delay <= timedelta(0):
            await real_sleep(delay.total_seconds())
            return
        is_over = asyncio.Event()
        with self._asleep(self._now + delay, is_over.set, job=job):
            for watcher in tuple(self._watchers):
                watcher()
            await is_over.wait()

    def next_alarm(self) -> datetime | None:
        """Return until when the first of the jobs that pass time is asleep; None when none is."""
        with self._lock:
            return min((sleeper.due for sleeper in self._sleepers if sleeper.job is not None), default=None)

    @contextmanager
    def watched(self, watcher: Callable[[], object]) -> Iterator[None]:
        """Call `watcher`, in the thread where it happens, whenever a job begins to pass time."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    @contextmanager
    def _asleep(self, due: datetime, wake: Callable[[], None], *, job: JobId | None = None) -> Iterator[None]:
        sleeper = _Sleeper(due, wake, job=job)
        with self._lock:
            self._sleepers.append(sleeper)
        try:
            yield
        finally:
            sleeper.is_gone = True
            with self._lock:
                self._sleepers = [each for each in self._sleepers if each is not sleeper]


class _Sleeper:
    """A coroutine that sleeps by this clock, in its own event loop."""

    def __init__(self, due: datetime, wake: Callable[[], None], *, job: JobId | None) -> None:
        self.due = due
        self.job = job
        self.is_gone = False
        self._loop = asyncio.get_running_loop()
        self._wake = wake

    def wake(self) -> None:
        with suppress(RuntimeError):  # its loop has been closed
            self._loop.call_soon_threadsafe(self._wake_here)

    def _wake_here(self) -> None:
        # It may have been woken in another way meanwhile.
        if not self.is_gone:
            self._wake()


def _current_id() -> JobId | None:
    try:
        return current_job().id
    except JobError:
        return None


def _aware(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise ClockError(
            f"{moment!r} has no time zone; write datetime(…, tzinfo=UTC), or tzinfo=ZoneInfo('Europe/Berlin')"
        )
    return moment.astimezone(UTC)
