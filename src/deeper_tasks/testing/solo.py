"""A solo worker: runs jobs one at a time, as a worker would, and only while it is asked to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Self

import msgspec
from msgspec import Struct

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, SortKey
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.outcome import Outcome
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.stop import Stop
from deeper_tasks.errors import BackendError, JobNotCompletedError
from deeper_tasks.manager import BackgroundTaskManager
from deeper_tasks.manager.worker_settings import worker_settings
from deeper_tasks.tasks import CurrentJob, ExecutorKind, WorkerState
from deeper_tasks.testing.clock import ManualClock, real_sleep
from deeper_tasks.testing.clocked import ClockedBackend
from deeper_tasks.testing.summary import Run, RunEnd, Summary, run_end
from deeper_tasks.testing.watched_call import WatchingExecutor
from deeper_tasks.worker.execution.attempt import Attempt
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.execution.call import CallSettings
from deeper_tasks.worker.execution.deadlines import Deadlines
from deeper_tasks.worker.execution.executors.coroutine import CoroutineExecutor
from deeper_tasks.worker.execution.executors.thread import ThreadExecutor
from deeper_tasks.worker.execution.middleware import Proceed
from deeper_tasks.worker.execution.redaction import Redaction
from deeper_tasks.worker.execution.reporter import Reporter
from deeper_tasks.worker.execution.runner import Runner
from deeper_tasks.worker.listener import Listener
from deeper_tasks.worker.liveness.host import describe_node
from deeper_tasks.worker.maintenance.maintainers import Expirer, Promoter, Pruner
from deeper_tasks.worker.maintenance.scheduler import Scheduler
from deeper_tasks.worker.process.exits import confined_exits
from deeper_tasks.worker.role import Role
from deeper_tasks.worker.settling.attempt_end import AttemptEnd, Stored
from deeper_tasks.worker.settling.settlement_events import announce

_FOR_EVER = timedelta(days=36_500)
"""How long a maintainer that has nothing to do says it may rest: by itself it never looks again."""
_NAME = "testing kit"
_FAILURES = frozenset({RunEnd.RETRYABLE, RunEnd.FAILED, RunEnd.DISCARDED})


class TooManyRunsError(AssertionError):
    """One call of the kit ran more attempts than its limit: a chain of jobs that has no end, most likely."""


class StuckJobError(AssertionError):
    """A job took longer in real time than the kit waits."""


class Demands(Struct, frozen=True, kw_only=True):
    """
    What a call of the kit demands: at most `limit` attempts, each `patience` real seconds at most without an end.

    `raise_errors`: the first exception that fails an attempt is raised, once it is recorded.
    `until`: what becomes due after this moment is not started, however far a job takes the clock.
    `recurring`: whether `rest` fires recurring tasks.
    """

    limit: int
    patience: float
    raise_errors: bool = False
    until: datetime | None = None
    recurring: bool = True


class SoloWorker:
    """
    The parts of a worker that run and maintain, without its loops; made anew for each call of the kit.

    What passes between a claim and its settlement is what happens in
    production: decoding, middleware, executor, outcome. Two things differ: a
    task with `executor="process"` runs in a thread, so that a test's fakes
    reach it, and time passes only by the clock.
    """

    def __init__(
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
        self._bus = manager.events
        settings = worker_settings(manager.settings, {manager.settings.default_queue: 1})
        # A test has no other worker, whose code the arguments may fit.
        self._settings = msgspec.structs.replace(
            settings, poll_interval=_FOR_EVER, cleanup_interval=_FOR_EVER, deploy_grace=timedelta(0)
        )
        self._node = describe_node(_NAME, {})
        self._running: dict[JobId, Attempt] = {}
        self._raised: dict[JobId, BaseException] = {}
        self._redaction = Redaction(manager.redactor)
        reporter = Reporter(backend=store, clock=clock, token_of=self._token_of, redaction=self._redaction)
        self._deadlines = Deadlines(running=self._attempts, clock=clock, on_ignored=lambda _: None)
        coroutines = WatchingExecutor(
            CoroutineExecutor(now=clock.monotonic), settings=self._call_settings, on_raised=self._note
        )
        self._threads = WatchingExecutor(
            ThreadExecutor(threads=1, now=clock.monotonic), settings=self._call_settings, on_raised=self._note
        )
        self._runner = Runner(
            manager=manager.identity,
            backend=store,
            registry=manager.registry,
            executors={
                ExecutorKind.COROUTINE: coroutines,
                ExecutorKind.THREAD: self._threads,
                ExecutorKind.PROCESS: self._threads,
            },
            call_settings=self._call_settings,
            middleware=(self._around, *manager.core.middleware),
            settings=self._settings,
            clock=clock,
            reporter=reporter,
            deadlines=self._deadlines,
            bus=self._bus,
            state=state,
            redaction=self._redaction,
        )
        # A job that takes the clock past the end makes nothing due that was not due by then.
        due = ClockedBackend(store, now=self._until_now)
        self._movers: tuple[Role, ...] = (
            Expirer(backend=due, settings=self._settings, bus=self._bus),
            Promoter(backend=due, settings=self._settings),
        )
        self._planners: tuple[Role, ...] = ()
        if demands.recurring:
            self._planners = (
                Scheduler(backend=due, settings=self._settings, bus=self._bus, declare=manager.declare_recurring_tasks),
            )
        self._pruner = Pruner(backend=store, settings=self._settings, clock=clock, bus=self._bus)
        self._beats: set[asyncio.Task[None]] = set()
        self._listener = Listener(
            backend=store,
            availability=Availability(bus=self._bus, monotonic=clock.monotonic),
            clock=clock,
            on_jobs=lambda _: None,
            on_control=self._beat_soon,
            on_schedules=lambda: None,
        )
        self._listening: asyncio.Task[None] | None = None

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
        await self._threads.close()
        await self._store.deregister(self._node.id)

    @property
    def summary(self) -> Summary:
        """What has run so far."""
        return Summary(runs=tuple(self.runs))

    async def rest(self) -> timedelta:
        """
        Do all that is due now, until nothing more is; returns how long nothing will be due by itself.

        Raises:
            TooManyRunsError: more attempts than the limit.
            StuckJobError: one of them did not end.
        """
        while True:
            # The clock may have moved by days, and a node as silent as that is pruned.
            await self._beat()
            while await self._pruner.turn() < _FOR_EVER:
                pass
            pause = min([await maintainer.turn() for maintainer in (*self._movers, *self._planners)])
            before = len(self.runs)
            await self.run_pending()
            if len(self.runs) == before and pause > timedelta(0):
                return pause

    async def run_pending(self, queue: str | None = None) -> None:
        """Run what is pending, of one queue or of all, until nothing is that can be."""
        empty: set[str] = set()
        while (name := await self._next_queue(queue, empty)) is not None:
            if not await self.run_next(name):
                # What is pending there has expired.
                empty.add(name)

    async def promote(self) -> None:
        """Make pending what is due, and fail what is too late."""
        for mover in self._movers:
            while not await mover.turn():
                pass

    async def run_next(self, queue: str) -> bool:
        """Run the first job of a queue; False: there is none, or the queue is paused."""
        token = ClaimToken(token_hex(8))
        claim = await self._store.claim(queue, limit=1, slots=1, node=self._node.id, token=token)
        for job in claim.jobs:
            await self._run(job)
        return bool(claim.jobs)

    async def _next_queue(self, only: str | None, empty: set[str]) -> str | None:
        """Return the queue whose turn it is: the one with the job that was due first."""
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
            raise TooManyRunsError(self._too_many(job.task))
        started_at = self._clock.now()
        attempt = self._running[job.id] = Attempt(job, claimed=self._clock.monotonic())
        end = await self._attempted(attempt)
        if end is None:
            return
        settlement = self._redaction.settlement(end if isinstance(end, Settlement) else end.settlement)
        if settlement.ran_for is not None:
            # What the executor measured is real time, which the store's knows nothing of.
            settlement = msgspec.structs.replace(settlement, ran_for=self._clock.now() - started_at)
        if isinstance(end, Stored):
            state = end.state
            announce(self._bus, [(job, settlement, state)])
        else:
            state = await self._settle(job, settlement)
        if state is not None:
            self._record(job, settlement, run_end(settlement, state), started_at=started_at)

    async def _attempted(self, attempt: Attempt) -> AttemptEnd | None:
        job = attempt.job
        self._raised.pop(job.id, None)
        running = attempt.task = asyncio.Task(self._runner.run(attempt), context=self._base.fresh())
        try:
            with confined_exits(asyncio.get_running_loop()):
                await self._wait_for(running, attempt)
        finally:
            if not running.done():
                await self._break_off(running, attempt)
            del self._running[job.id]
        return running.result()

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

    async def _wait_for(self, running: asyncio.Task[AttemptEnd | None], attempt: Attempt) -> None:
        """Wait for the end of an attempt; whenever it passes time, move the clock."""
        loop, has_slept = asyncio.get_running_loop(), asyncio.Event()
        with self._clock.watched(lambda: loop.call_soon_threadsafe(has_slept.set)):
            while not running.done():
                alarm = self._clock.next_alarm()
                if alarm is not None:
                    self._pass_time(alarm)
                    await _let_run()
                    continue
                sleeping = asyncio.ensure_future(has_slept.wait())
                try:
                    done, _ = await asyncio.wait(
                        (running, sleeping), timeout=self._demands.patience, return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    sleeping.cancel()
                has_slept.clear()
                if not done:
                    raise self._stuck(attempt)

    def _pass_time(self, alarm: datetime) -> None:
        """Move the clock to when the next sleeper of a job wakes, or to the deadline that comes before."""
        now, seconds = self._clock.now(), self._deadlines.turn()
        if seconds is not None:
            # At least the smallest step: a deadline is kept as a float, which may lie a little after the moment.
            alarm = min(alarm, now + max(timedelta(seconds=seconds), timedelta.resolution))
        self._clock.move(max(now, alarm))
        self._deadlines.turn()

    async def _break_off(self, running: asyncio.Task[AttemptEnd | None], attempt: Attempt) -> None:
        """Give back a job whose end nobody waits for any more."""
        attempt.tell_to_stop(Stop.SHUTDOWN)
        if attempt.interrupt is None:
            running.cancel()
        await asyncio.wait((running,), timeout=self._demands.patience)
        job = attempt.job
        with suppress(BackendError):
            ran_for = None if attempt.context is None else timedelta(0)
            await self._store.settle([Settlement(id=job.id, token=job.token, end=End.RELEASE, ran_for=ran_for)])

    async def _settle(self, job: ClaimedJob, settlement: Settlement) -> State | None:
        settled = await self._store.settle([settlement])
        state = settled[0].state if settled else None
        announce(self._bus, [(job, settlement, state)])
        return state

    def _raise(self, run: Run) -> None:
        error = self._raised.get(run.job_id)
        if isinstance(error, Outcome):
            return
        if error is not None:
            raise error
        message = f"attempt {run.attempt} of {run.task} ({run.job_id}) ended as {run.end}: {run.error}"
        raise JobNotCompletedError(message)

    def _too_many(self, next_task: str) -> str:
        message = f"{self._demands.limit} attempts have run and more are pending ({next_task} is next)"
        if self.runs:
            [(task, count)] = Counter(run.task for run in self.runs).most_common(1)
            message += f", {count} of {task}"
        leave_out = "leave out recurring tasks with advance(…, recurring=False), or " if self._planners else ""
        return f"{message}; if jobs do not enqueue each other without end, {leave_out}give a higher limit=…"

    def _stuck(self, attempt: Attempt) -> StuckJobError:
        return StuckJobError(
            f"{attempt.job.task} ({attempt.job.id}) has not ended within {readable(self._demands.patience)} "
            "of real time; "
            "let what takes long pass its time with kit.sleep(…), or give the kit more patience=…"
        )

    # what the parts ask

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
        # Not a cancellation: that is how a timeout looks from inside.
        if isinstance(error, Exception):
            self._raised[job_id] = error

    def _attempts(self) -> Iterable[Attempt]:
        return list(self._running.values())

    def _token_of(self, job_id: JobId) -> ClaimToken | None:
        attempt = self._running.get(job_id)
        return None if attempt is None else attempt.job.token

    def _call_settings(self) -> CallSettings:
        return CallSettings(
            max_result_bytes=self._settings.max_result_bytes,
            default_retry_delay=self._settings.default_retry_delay,
            default_max_retry_delay=self._settings.default_max_retry_delay,
            random=self._clock.random(),
        )

    def _beat_soon(self) -> None:
        beat = asyncio.get_running_loop().create_task(self._beat())
        self._beats.add(beat)
        beat.add_done_callback(self._beats.discard)

    async def _beat(self) -> None:
        """Learn what is to be cancelled, as a worker does."""
        beat = await self._store.beat(self._node.id, busy=len(self._running))
        for job_id, reason in beat.cancels.items():
            attempt = self._running.get(job_id)
            if attempt is not None and Stop.CANCEL not in attempt.told:
                attempt.tell_to_stop(Stop.CANCEL, reason)


async def _let_run() -> None:
    """Let those who were woken run until they wait again."""
    for _ in range(20):
        await real_sleep(0)
