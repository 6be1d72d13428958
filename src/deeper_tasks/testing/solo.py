"""A solo worker: runs jobs one at a time like a worker, and only when a call of the kit asks for it."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import suppress
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Self

import msgspec

from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, SortKey
from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.outcome import Outcome
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.stop import Stop
from deeper_tasks.errors import BackendError, JobNotCompletedError
from deeper_tasks.manager import BackgroundTaskManager
from deeper_tasks.manager.worker_settings import worker_settings
from deeper_tasks.tasks import CurrentJob, WorkerState
from deeper_tasks.testing.clock import ManualClock
from deeper_tasks.testing.clocked import ClockedBackend
from deeper_tasks.testing.demands import Demands
from deeper_tasks.testing.solo_attempt import SoloAttempt
from deeper_tasks.testing.summary import Run, RunEnd, Summary, run_end
from deeper_tasks.testing.watched_call import WatchingExecutor
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.collaborators import Proceed
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.execution.executors.assembly import assemble_executors
from deeper_tasks.worker.execution.parts import assemble_execution
from deeper_tasks.worker.execution.runner import Runner
from deeper_tasks.worker.listener import Listener
from deeper_tasks.worker.liveness.host import describe_node
from deeper_tasks.worker.maintenance.maintenance import Maintenance
from deeper_tasks.worker.role import Role
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.settling.attempt_end import AttemptEnd, Stored
from deeper_tasks.worker.settling.settlement_events import announce

_FOREVER = timedelta(days=36_500)
"""How long a maintainer without work says that it may rest, so that it does not look again by itself."""
_NAME = "testing kit"
_FAILURES = frozenset({RunEnd.RETRYABLE, RunEnd.FAILED, RunEnd.DISCARDED})


class SoloWorker:
    """
    The parts of a worker that run and maintain, without its loops; made anew for each call of the kit.

    Between a claim and its settlement the same happens as in production: decoding, middleware, executor, outcome.
    Two things differ: a task with `executor="process"` runs in a thread, so that a test's fakes reach it, and time
    passes only by the clock.
    """

    def __init__(  # noqa: PLR0913 - the kit's session keeps each of them from call to call
        self,
        manager: BackgroundTaskManager,
        *,
        store: Backend,
        clock: ManualClock,
        demands: Demands,
        state: WorkerState,
        base: BaseContext,
    ) -> None:
        self.runs: list[Run] = []
        self._store = store
        self._clock = clock
        self._demands = demands
        self._base = base
        self._settings = _settings_of(manager)
        self._node = describe_node(_NAME, {})
        self._raised: dict[JobId, BaseException] = {}
        declare = manager.declare_recurring_tasks if demands.recurring else None
        collaborators = manager._collaborators(declare)  # noqa: SLF001 - what its own workers get
        self._collaborators = dataclasses.replace(
            collaborators,
            backend=store,
            clock=clock,
            availability=None,
            middleware=(self._around, *collaborators.middleware),
        )
        self._execution = assemble_execution(self._collaborators, self._settings)
        self._running = self._execution.running.new_group()
        executors = assemble_executors(self._execution, threads=1)
        self._executors = {
            kind: WatchingExecutor(executor, settings=self._execution.call_settings, on_raised=self._note)
            for kind, executor in executors.items()
        }
        self._runner = Runner(self._execution, executors={**self._executors}, state=state)
        self._assemble_maintenance()
        self._beats: set[asyncio.Task[None]] = set()
        self._listener = Listener(
            self._execution.store,
            on_jobs=lambda _: None,
            on_control=self._beat_soon,
            on_schedules=lambda: None,
        )
        self._listening: asyncio.Task[None] | None = None

    def _assemble_maintenance(self) -> None:
        # A job that takes the clock past the end makes nothing due that was not due by then.
        due = dataclasses.replace(self._collaborators, backend=ClockedBackend(self._store, now=self._until_now))
        maintenance = Maintenance(due, self._settings)
        self._movers: tuple[Role, ...] = (maintenance.expirer, maintenance.promoter)
        self._planners: tuple[Role, ...] = (
            (maintenance.scheduler,) if self._demands.recurring and maintenance.scheduler is not None else ()
        )
        self._pruner = Maintenance(self._collaborators, self._settings).pruner

    async def __aenter__(self) -> Self:
        await self._store.open()
        await self._store.register(self._node)
        self._listening = asyncio.create_task(self._listener.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        helpers = [*self._beats, *([] if self._listening is None else [self._listening])]
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await asyncio.gather(*(executor.close() for executor in self._executors.values()))
        await self._store.deregister(self._node.id)

    @property
    def summary(self) -> Summary:
        """The runs so far."""
        return Summary(runs=tuple(self.runs))

    async def rest(self) -> timedelta:
        """
        Do all work that is due now, and return how long no further work will become due.

        Raises:
            TooManyRunsError: more attempts than the limit.
            StuckJobError: one of them did not end.
        """
        while True:
            # The clock may have moved by days, after which the store would prune a silent node.
            await self._beat()
            while await self._pruner.turn() < _FOREVER:
                pass
            pause = min([await maintainer.turn() for maintainer in (*self._movers, *self._planners)])
            before = len(self.runs)
            await self.run_pending()
            if len(self.runs) == before and pause > timedelta(0):
                return pause

    async def run_pending(self, queue: str | None = None) -> None:
        """Run the pending jobs of one queue, or of all, until none is left that can run."""
        empty: set[str] = set()
        while (name := await self._next_queue(queue, empty)) is not None:
            if not await self.run_next(name):
                # The jobs that are pending there have expired.
                empty.add(name)

    async def promote(self) -> None:
        """Make due jobs pending, and fail expired jobs."""
        for mover in self._movers:
            while not await mover.turn():
                pass

    async def run_next(self, queue: str) -> bool:
        """Run the first job of a queue; False if there is none, or if the queue is paused."""
        token = ClaimToken(token_hex(8))
        claim = await self._store.claim(queue, limit=1, slots=1, node=self._node.id, token=token)
        for job in claim.jobs:
            await self._run(job)
        return bool(claim.jobs)

    async def _next_queue(self, only: str | None, empty: set[str]) -> str | None:
        """Return the queue with the job that was due first."""
        counts = (await self._store.statistics()).queues
        names = [
            name
            for name, queue in counts.items()
            if queue.by_state.get(State.PENDING)
            and queue.paused_at is None
            and only in {None, name}
            and name not in empty
        ]
        until = self._demands.until
        is_past_the_end = until is not None and self._clock.now() > until
        if len(names) <= 1 and not is_past_the_end:
            return next(iter(names), None)
        firsts = [(await self._first(name), name) for name in names]
        return min((first for first in firsts if until is None or first[0][0] <= until), default=(None, None))[1]

    async def _first(self, queue: str) -> tuple[datetime, JobId]:
        query = JobQuery(
            filter=JobFilter(queue=queue, states=frozenset({State.PENDING})),
            sort_by=SortKey.SCHEDULED_AT,
            is_descending=False,
            limit=1,
        )
        [job] = (await self._store.find(query)).jobs
        return job.scheduled_at, job.id

    async def _run(self, job: ClaimedJob) -> None:
        if len(self.runs) >= self._demands.limit:
            await self._settle(job, Settlement(id=job.id, token=job.token, end=End.RELEASE, reason="not started"))
            raise self._demands.too_many(self.runs, next_task=job.task)
        started_at = self._clock.now()
        attempt = self._running[job.id] = Attempt(job, claimed=self._clock.monotonic())
        end = await self._attempted(attempt)
        if end is None:
            return
        settlement = self._execution.redaction.settlement(end if isinstance(end, Settlement) else end.settlement)
        if settlement.ran_for is not None:
            # The executor measured real time, which has nothing to do with the kit's.
            settlement = msgspec.structs.replace(settlement, ran_for=self._clock.now() - started_at)
        if isinstance(end, Stored):
            state = end.state
            announce(self._collaborators.bus, [(job, settlement, state)])
        else:
            state = await self._settle(job, settlement)
        if state is not None:
            self._record(job, settlement, run_end(settlement, state), started_at=started_at)

    async def _attempted(self, attempt: Attempt) -> AttemptEnd | None:
        job = attempt.job
        self._raised.pop(job.id, None)
        solo = SoloAttempt(attempt, clock=self._clock, deadlines=self._execution.deadlines, demands=self._demands)
        try:
            return await solo.run(self._runner, base=self._base)
        finally:
            if solo.was_broken_off:
                with suppress(BackendError):
                    ran_for = None if attempt.context is None else timedelta(0)
                    released = Settlement(id=job.id, token=job.token, end=End.RELEASE, ran_for=ran_for)
                    await self._store.settle([released])
            del self._running[job.id]

    def _record(self, job: ClaimedJob, settlement: Settlement, end: RunEnd, *, started_at: datetime) -> None:
        error = settlement.error
        run = Run(
            job_id=job.id,
            task=job.task,
            queue=job.queue,
            attempt=job.attempt,
            started_at=started_at,
            end=end,
            error=None if error is None else f"{error.kind}: {error.message}",
        )
        self.runs.append(run)
        if self._demands.raise_errors and end in _FAILURES:
            self._raise(run)

    async def _settle(self, job: ClaimedJob, settlement: Settlement) -> State | None:
        settled = await self._store.settle([settlement])
        state = settled[0].state if settled else None
        announce(self._collaborators.bus, [(job, settlement, state)])
        return state

    def _raise(self, run: Run) -> None:
        error = self._raised.get(run.job_id)
        if isinstance(error, Outcome):
            return
        if error is not None:
            raise error
        message = f"attempt {run.attempt} of {run.task} ({run.job_id}) ended as {run.end}: {run.error}"
        raise JobNotCompletedError(message)

    # called by the parts

    def _until_now(self) -> datetime:
        now, until = self._clock.now(), self._demands.until
        return now if until is None else min(now, until)

    async def _around(self, job: CurrentJob, proceed: Proceed) -> Settlement:
        try:
            return await proceed()
        except Exception as error:
            self._note(job.id, error)
            raise

    def _note(self, job_id: JobId, error: BaseException) -> None:
        # Not a cancellation, which is what a handler sees of a timeout.
        if isinstance(error, Exception):
            self._raised[job_id] = error

    def _beat_soon(self) -> None:
        beat = asyncio.get_running_loop().create_task(self._beat())
        self._beats.add(beat)
        beat.add_done_callback(self._beats.discard)

    async def _beat(self) -> None:
        """Take the store's cancels, like a worker."""
        beat = await self._store.beat(self._node.id, busy=len(self._running))
        for job_id, reason in beat.cancels.items():
            attempt = self._running.get(job_id)
            if attempt is not None and Stop.CANCEL not in attempt.announced:
                attempt.tell_to_stop(Stop.CANCEL, reason)


def _settings_of(manager: BackgroundTaskManager) -> WorkerSettings:
    settings = worker_settings(manager.settings, {manager.settings.default_queue: 1})
    # No grace for a deploy: a test has no other worker, whose code might fit the arguments.
    return msgspec.structs.replace(
        settings, poll_interval=_FOREVER, cleanup_interval=_FOREVER, deploy_grace=timedelta(0)
    )
