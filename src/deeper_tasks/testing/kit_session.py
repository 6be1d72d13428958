"""A kit session: a manager under a test's control, with its time, its runs and its jobs, async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Unpack

from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, SortKey
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State
from deeper_tasks.manager import BackgroundTaskManager, TaskStatus
from deeper_tasks.manager.views import to_status
from deeper_tasks.tasks import Task, WorkerState
from deeper_tasks.testing.clock import ClockError, ManualClock
from deeper_tasks.testing.demands import Demands
from deeper_tasks.testing.expectation import Expectation, Wanted
from deeper_tasks.testing.failure_message import complain
from deeper_tasks.testing.faulty import FaultyBackend
from deeper_tasks.testing.solo import SoloWorker
from deeper_tasks.testing.summary import Summary
from deeper_tasks.worker.clock import SystemClock
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.hooks.hook_run import HookRun

AnyTask = Task[..., Any] | str

_A_PAGE = 500
MOST_RUNS = 1_000
_MOST_RUNS_IN_TIME = 100_000


class KitSession:
    """The functions of `TaskKit`, async."""

    def __init__(
        self,
        manager: BackgroundTaskManager,
        *,
        store: Backend,
        faults: FaultyBackend,
        clock: ManualClock,
        patience: float,
    ) -> None:
        self.manager = manager
        self.store = store
        self.faults = faults
        self.clock = clock
        self.state = WorkerState()
        self._patience = patience
        self._base = BaseContext()

    @property
    def now(self) -> datetime:
        """The time, by the kit's clock."""
        return self.clock.now()

    # time and runs

    async def advance(
        self,
        by: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        until: datetime | None = None,
        recurring: bool = True,
        raise_errors: bool = False,
        limit: int = _MOST_RUNS_IN_TIME,
    ) -> Summary:
        """
        Let time pass, and all happen that is due meanwhile: `advance(hours=3)`, or `advance(until=…)`.

        Jobs and retries that become due, recurring tasks, expiry, retention:
        each at its own moment, in the order of time. A job that takes longer
        (`sleep`) takes the clock along, if need be past the end; what becomes
        due only after the end is not started.

        `recurring=False` fires no recurring task. A later `advance` treats
        the runs left out as missed ones.

        Returns:
            The attempts that ran.

        Raises:
            TooManyRunsError: more attempts than `limit`.
            StuckJobError: a job did not end in real time.
            ClockError: no time to come was given.
            Exception: with `raise_errors`, the first that failed an attempt; the clock stands at its moment.
        """
        span = (by or timedelta(0)) + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        target = self._target(span, until)
        async with self.worker(limit=limit, raise_errors=raise_errors, until=target, recurring=recurring) as worker:
            due = self.now + await worker.rest()
            while self.now < target:
                self.clock.move(max(self.now, min(due, target)))
                due = self.now + await worker.rest()
            return worker.summary

    async def drain(
        self,
        queue: str | None = None,
        *,
        with_scheduled: bool = False,
        with_retries: bool = False,
        raise_errors: bool = False,
        limit: int = MOST_RUNS,
    ) -> Summary:
        """
        Run what is pending, of one queue or of all, and what those jobs enqueue, until nothing is left.

        `with_scheduled` and `with_retries` run what is due later too: the clock
        is moved to each in turn. Recurring tasks do not fire: they have no end.

        Returns and raises as `advance` does.
        """
        later = {State.SCHEDULED: with_scheduled, State.RETRYABLE: with_retries}
        states = frozenset(state for state, is_wanted in later.items() if is_wanted)
        async with self.worker(limit=limit, raise_errors=raise_errors) as worker:
            await worker.promote()
            await worker.run_pending(queue)
            while states and (due := await self._next_due(states, queue)) is not None:
                self.clock.move(max(self.now, due))
                await worker.promote()
                await worker.run_pending(queue)
            return worker.summary

    async def sleep(self, seconds: float | timedelta) -> None:
        """
        Take this long by the kit's clock: for the fakes that a job calls, in place of `asyncio.sleep`.

        Called by anything but a job it is `asyncio.sleep`.
        """
        await self.clock.pass_time(seconds)

    @asynccontextmanager
    async def hooks(self) -> AsyncIterator[WorkerState]:
        """
        Run the manager's start hooks, and its stop hooks at the end of the `async with`; gives the jobs' state.

        Without it no hook runs, and a test puts into `state` what its jobs need.

        Raises:
            HookError: a start hook failed.
        """
        run = HookRun(self.manager.core.hooks, clock=SystemClock(), state=self.state)
        try:
            await run.start(stopping=asyncio.Event(), context=self._base.context)
            self._base.freeze()
            yield self.state
        finally:
            await run.stop()

    # enqueued jobs

    async def assert_enqueued(
        self, task: AnyTask | None = None, *, count: int | None = None, **wanted: Unpack[Wanted]
    ) -> list[TaskStatus]:
        """
        Check that jobs like this were enqueued, whatever has become of them: at least one, or exactly `count`.

        Returns:
            Those that fit, oldest first.

        Raises:
            AssertionError: there are none, or not so many; the message shows the nearest, field by field.
            InvalidArgumentsError, InvalidOptionError: no job could ever fit.
        """
        expectation, jobs = await self._look(task, **wanted)
        matches = [job for job in jobs if expectation.fits(job)]
        if matches and count in {None, len(matches)}:
            return list(map(to_status, matches))
        if count == 0 and not matches:
            return []
        raise AssertionError(complain(expectation, jobs=jobs, matches=matches, count=count))

    async def refute_enqueued(self, task: AnyTask | None = None, **wanted: Unpack[Wanted]) -> None:
        """Check that no job like this was enqueued. Raises as `assert_enqueued` does."""
        await self.assert_enqueued(task, count=0, **wanted)

    async def all_enqueued(self, task: AnyTask | None = None, **wanted: Unpack[Wanted]) -> list[TaskStatus]:
        """Return all jobs like this, oldest first."""
        expectation, jobs = await self._look(task, **wanted)
        return [to_status(job) for job in jobs if expectation.fits(job)]

    # inside

    def worker(
        self, *, limit: int, raise_errors: bool, until: datetime | None = None, recurring: bool = False
    ) -> SoloWorker:
        """Return a worker, for an `async with`, that runs jobs on demand."""
        demands = Demands(
            limit=limit, patience=self._patience, raise_errors=raise_errors, until=until, recurring=recurring
        )
        return SoloWorker(
            self.manager, store=self.store, clock=self.clock, demands=demands, state=self.state, base=self._base
        )

    def _target(self, span: timedelta, until: datetime | None) -> datetime:
        if until is None:
            target = self.now + span
        elif span:
            raise ClockError(f"advance takes a span or until=, not both: {span!r} and {until!r}")
        elif until.utcoffset() is None:
            raise ClockError(f"until cannot be {until!r}: a datetime needs a time zone, such as tzinfo=UTC")
        else:
            target = until
        if target < self.now:
            raise ClockError(f"the clock shows {self.now.isoformat()} and does not go back to {target.isoformat()}")
        return target

    async def _next_due(self, states: frozenset[State], queue: str | None) -> datetime | None:
        query = JobQuery(
            filter=JobFilter(states=states, queue=queue),
            sort_by=SortKey.SCHEDULED_AT,
            is_descending=False,
            limit=1,
        )
        jobs = (await self.store.find(query)).jobs
        return jobs[0].scheduled_at if jobs else None

    async def _look(self, task: AnyTask | None, **wanted: Unpack[Wanted]) -> tuple[Expectation, list[Job]]:
        expectation = Expectation(task, registry=self.manager.registry, now=self.now, **wanted)
        await self.store.open()
        jobs: list[Job] = []
        query = JobQuery(is_descending=False, limit=_A_PAGE)
        while True:
            page = await self.store.find(query)
            jobs += page.jobs
            if page.next is None:
                return expectation, jobs
            query = JobQuery(is_descending=False, limit=_A_PAGE, after=page.next)
