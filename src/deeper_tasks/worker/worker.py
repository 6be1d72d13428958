"""The worker: puts its parts together, starts them, and ends them in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import Backend, Beat, Folding
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.queue_patterns import ServedQueues, is_pattern
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.stop import Stop
from deeper_tasks.errors import BackendError
from deeper_tasks.integrations.events import (
    EventBus,
    NodeLost,
    QueuesUnserved,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
    WorkerStuck,
)
from deeper_tasks.tasks import ExecutorKind, ManagerIdentity, TaskRegistry, WorkerState
from deeper_tasks.worker.claiming.consumer import Consumer
from deeper_tasks.worker.claiming.unserved_queues import queues_of_tasks, served_by_living, unserved
from deeper_tasks.worker.clock import Clock, SystemClock
from deeper_tasks.worker.execution.attempt import Attempt
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.execution.call import CallSettings
from deeper_tasks.worker.execution.deadlines import Deadlines
from deeper_tasks.worker.execution.executors import Executor
from deeper_tasks.worker.execution.executors.coroutine import CoroutineExecutor
from deeper_tasks.worker.execution.executors.nursery import Nursery
from deeper_tasks.worker.execution.executors.process import ProcessExecutor
from deeper_tasks.worker.execution.executors.thread import ThreadExecutor
from deeper_tasks.worker.execution.hook_names import names_of
from deeper_tasks.worker.execution.hooks import HookRun, Hooks
from deeper_tasks.worker.execution.job_log_records import JobRecords
from deeper_tasks.worker.execution.middleware import Middleware
from deeper_tasks.worker.execution.quarantine import Quarantine
from deeper_tasks.worker.execution.redaction import Redaction
from deeper_tasks.worker.execution.reporter import Reporter
from deeper_tasks.worker.execution.runner import Runner
from deeper_tasks.worker.execution.solitude import Solitude
from deeper_tasks.worker.execution.stuck_slots import StuckSlots
from deeper_tasks.worker.execution.verdict import SHUTTING_DOWN
from deeper_tasks.worker.home import Home, no_home
from deeper_tasks.worker.listener import Listener
from deeper_tasks.worker.liveness.certain_end import end_within
from deeper_tasks.worker.liveness.heartbeat import Heartbeat
from deeper_tasks.worker.liveness.heartbeat_watch import HeartbeatWatch
from deeper_tasks.worker.liveness.joining import Joining
from deeper_tasks.worker.liveness.last_resort import LAST_WORDS, LastResort
from deeper_tasks.worker.liveness.loop_lag import TellLag
from deeper_tasks.worker.liveness.loop_watch import LoopWatch
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.maintenance.maintainers import Expirer, Folder, Promoter, Pruner, Rescuer
from deeper_tasks.worker.maintenance.scheduler import Declare, Scheduler
from deeper_tasks.worker.process.exits import owns_process
from deeper_tasks.worker.role import Role, RoleLoop, keep_running
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.settling.settlement_events import announce, announce_end
from deeper_tasks.worker.settling.settler import Answered, Settler

_logger = logging.getLogger("deeper_tasks")

_STOPPING_PAUSE = 0.02
_LAST_SETTLES = 3.0
"""Seconds for the ends that are written when all else is over."""
_ENDS_WITHIN, _FREE_AFTER = 8.0, timedelta(seconds=10)
"""Seconds within which a process ends that gives back what still runs in it, and the delay after which that may start
elsewhere: it has ended before, so two never run the same job."""


class Worker:
    """
    Runs the jobs of its queues, and takes its part in maintaining the store.

    Make it inside a running event loop; `run` returns after `stop`. The store must be open.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        registry: TaskRegistry,
        bus: EventBus,
        settings: WorkerSettings,
        middleware: Sequence[Middleware] = (),
        hooks: Hooks | None = None,
        clock: Clock | None = None,
        declare: Declare | None = None,
        home: Callable[[], Home] = no_home,
        redactor: Redactor | None = None,
        availability: Availability | None = None,
        manager: ManagerIdentity | None = None,
    ) -> None:
        redactor = redactor or Redactor()
        redaction = Redaction(redactor)
        self._records = JobRecords(redactor)
        self._backend = backend
        self._registry = registry
        self._bus = bus
        self._settings = settings
        self._clock = clock or SystemClock()
        self._base = BaseContext()
        self._hooks = HookRun(hooks or Hooks(), clock=self._clock)
        self._availability = availability or Availability(
            bus=bus, monotonic=self._clock.monotonic, random=self._clock.random
        )
        self._membership = Membership(backend=backend, settings=settings, tasks=registry.names)
        self._joining = Joining(
            membership=self._membership,
            availability=self._availability,
            clock=self._clock,
            on_lost=self._on_lost,
            on_joined=self._on_joined,
        )
        self._settler = Settler(
            backend=backend,
            clock=self._clock,
            availability=self._availability,
            on_settled=self._on_settled,
            on_stray_ended=partial(announce_end, bus),
            redaction=redaction,
        )
        self._reporter = Reporter(
            backend=backend,
            clock=self._clock,
            token_of=self._token_of,
            redaction=redaction,
            availability=self._availability,
        )
        self._stuck_slots = StuckSlots(
            settings=settings, running=self._running, clock=self._clock, bus=bus, on_stuck=self._on_stuck
        )
        self._deadlines = Deadlines(
            running=self._running,
            clock=self._clock,
            on_ignored=self._stuck_slots.note_ignored,
            stuck_after=settings.stuck_after,
        )
        self._process_executor = ProcessExecutor(
            modules=lambda: (task.module for task in self._registry if task.module is not None),
            reporter=self._reporter,
            settings=self._call_settings,
            deadlines=self._deadlines,
            memory_limit_mb=settings.process_memory_limit_mb,
            hooks=names_of(hooks) if hooks else None,
            redactor=redactor,
            records=self._records,
        )
        self._owns_process = owns_process(asyncio.get_running_loop())
        self._last_resort = LastResort(
            settings=settings, running=self._running, clock=self._clock, owns_process=self._owns_process
        )
        self._loop_watch = LoopWatch(
            settings=settings,
            running=self._running,
            bus=bus,
            last_resort=self._last_resort,
            hook=lambda: self._hooks.calling,
        )
        self._executors = self._make_executors()
        self._solitude = Solitude(
            running=self._running,
            clock=self._clock,
            is_stopping=lambda: self.is_stopping,
            on_change=self._on_solitude,
        )
        self._quarantine = self._make_quarantine(home)
        self._runner = Runner(
            manager=manager,
            backend=backend,
            registry=registry,
            executors=self._executors,
            call_settings=self._call_settings,
            middleware=tuple(middleware),
            settings=settings,
            clock=self._clock,
            reporter=self._reporter,
            deadlines=self._deadlines,
            bus=bus,
            state=self._hooks.state,
            quarantine=self._quarantine,
            redaction=redaction,
        )
        self._heartbeat = Heartbeat(
            backend=backend,
            membership=self._membership,
            settings=settings,
            availability=self._availability,
            busy=lambda: self.busy,
            on_beat=self._on_beat,
            on_lost=self._joining.note_lost,
        )
        self._heart_watch = HeartbeatWatch(
            signs=lambda: self._heartbeat.signs, lease=settings.lease, on_silence=self._on_silence
        )
        self._loops: dict[str, RoleLoop] = {}
        self._served = ServedQueues(settings.queues)
        self._consumers = {entry: self._make_consumer(entry, slots) for entry, slots in settings.queues.items()}
        consuming = tuple(self._loops.values())
        self._make_maintainers(declare)
        # A consumer whose slots are full asks the store nothing; the promoter always does.
        self._vital = (*consuming, self._loops["promoter"])
        self._listener = Listener(
            backend=backend,
            availability=self._availability,
            clock=self._clock,
            on_jobs=self._on_jobs,
            on_control=self._heartbeat.beat_now,
            on_schedules=self._on_schedules,
        )
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self._told: set[JobId] = set()
        self._stops = self._signals = 0
        self.stuck_because: str | None = None
        """Why this worker stops by itself: lost slots, or a part of it that has ended again and again."""

    @property
    def node_id(self) -> NodeId:
        """The id under which the store knows this worker now."""
        return self._membership.node_id

    @property
    def is_stuck(self) -> bool:
        """Whether this worker stops, or has stopped, by itself because it cannot go on: start another process."""
        return self.stuck_because is not None

    @property
    def is_ready(self) -> bool:
        """Whether this worker claims jobs: the store knows it, and answered the last claim of each queue."""
        is_at_work = not (self._stopping.is_set() or self._membership.is_in_doubt)
        return is_at_work and all(loop.is_working for loop in self._vital)

    @property
    def is_stopping(self) -> bool:
        """Whether this worker was told to stop, or stops because it is stuck."""
        return self._stopping.is_set()

    @property
    def busy(self) -> int:
        """How many jobs run."""
        return sum(len(consumer.running) for consumer in self._consumers.values())

    @property
    def state(self) -> WorkerState:
        """The state that the start hooks made in this process: `current_job().state` in its coroutines and threads."""
        return self._hooks.state

    def on_pulse(self, tell: TellLag) -> None:
        """
        Have `tell` called every second from the heartbeat's thread, with how many seconds the loop has been blocked.

        It begins when the store knows this worker, before the start hooks, and ends after the stop hooks.
        """
        self._heartbeat.tell_pulse = tell

    def stop(self) -> None:
        """Stop in order: claim no more, let jobs end for the grace period. Called again: give back at once."""
        self._stops += 1
        self._last_resort.note_stop(self._stops)
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()
        self._joining.stop()

    def note_signal(self) -> None:
        """
        Note a signal that means `stop`, from another thread: the loop, which calls `stop`, may be blocked.

        Where the worker has its process to itself, a loop that stays blocked does not keep that from ending.
        """
        self._signals += 1
        self._last_resort.note_stop(self._signals)

    async def run(self) -> None:
        """
        Work until `stop`, then return when all is settled or given back.

        The start hooks run before the first claim, the stop hooks after the last job.
        Cancelled, it gives back at once what runs, and its code has stopped before the cancellation goes on.

        Raises:
            HookError: a start hook failed; nothing was claimed.
        """
        with self._records:
            await self._run()

    async def _run(self) -> None:
        await self._joining.join()
        self._heartbeat.start()
        self._loop_watch.start()
        try:
            if not self._stopping.is_set():
                await self._hooks.start(stopping=self._stopping, context=self._base.context)
                self._base.freeze()
            if not self._stopping.is_set():
                await self._serve()
        finally:
            # Beside each other: the processes for jobs have stop hooks of their own, and all have one time for them.
            closing = asyncio.create_task(self._close_executors())
            self._last_resort.note_hooks()
            try:
                await self._hooks.stop()
            finally:
                await closing
            await self._heartbeat.stop()
            await self._loop_watch.stop()
            await self._give_back_unstoppable()
            with suppress(BackendError):
                await self._membership.leave()
            self._bus.emit(WorkerStopped(node=self.node_id, queues=self._settings.queues))

    async def _serve(self) -> None:
        """Claim and run jobs until `stop`, and until all that ran is settled or given back."""
        runs_jobs = self._backend.capabilities.runs_jobs
        self._bus.emit(WorkerStarted(node=self.node_id, queues=self._settings.queues, runs_jobs=runs_jobs))
        helpers = {
            "settler": self._settler.run,
            "reporter": self._reporter.run,
            "deadlines": self._deadlines.run,
            "heart watch": self._heart_watch.run,
            "listener": self._listener.run,
        }
        parts = helpers | {loop.name: loop.run for loop in self._loops.values()}
        vital = {"settler", "deadlines", *(loop.name for loop in self._vital)}
        tasks = [
            asyncio.create_task(
                keep_running(
                    name, run, clock=self._clock, on_hopeless=self._on_stuck if name in vital else lambda _: None
                ),
                name=name,
            )
            for name, run in parts.items()
        ]
        tasks += [asyncio.create_task(self._warm_up()), asyncio.create_task(self._name_unserved())]
        winding_down = asyncio.create_task(self._wind_down())
        try:
            await asyncio.shield(winding_down)
        except asyncio.CancelledError:
            self._stopping.set()
            self._hurrying.set()
            await winding_down
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _warm_up(self) -> None:
        """Have the application imported where its jobs will be forked, before the first one's timeout runs."""
        if any(task.executor is ExecutorKind.PROCESS for task in self._registry):
            await self._process_executor.warm_up()

    async def _name_unserved(self) -> None:
        """Tell of the queues of this worker's own tasks that no worker serves, when all that start now had a moment."""
        tasks = queues_of_tasks(self._registry, default_queue=self._settings.default_queue)
        queues = unserved(tasks, served=self._served)
        served: ServedQueues | None = None
        while queues and served is None and self._backend.capabilities.runs_jobs:
            await self._clock.sleep(self._settings.poll_interval.total_seconds(), until=asyncio.Event())
            if self._availability.is_away:
                continue
            with suppress(BackendError):
                served = await served_by_living(self._backend, lease=self._settings.lease)
        queues = [] if served is None else unserved(queues, served=served)
        if queues:
            self._bus.emit(
                QueuesUnserved(
                    node=self.node_id,
                    queues=self._settings.queues,
                    unserved={queue: tuple(sorted(tasks[queue])) for queue in queues},
                )
            )

    # winding down

    async def _wind_down(self) -> None:
        await self._stopping.wait()
        for consumer in self._consumers.values():
            consumer.drain()
        running = sum(1 for _ in self._running())
        self._bus.emit(WorkerStopping(node=self.node_id, queues=self._settings.queues, running=running))
        await self._until_idle(self._settings.shutdown_grace.total_seconds(), hurry=self._hurrying)
        for consumer in self._consumers.values():
            consumer.stop_running(Stop.SHUTDOWN, "the worker shuts down")
        await self._until_idle(LAST_WORDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._settler.wait_until_idle()

    async def _until_idle(self, seconds: float, *, hurry: asyncio.Event | None = None) -> None:
        deadline = self._clock.monotonic() + seconds
        while self._is_busy:
            if self._clock.monotonic() >= deadline or (hurry is not None and hurry.is_set()):
                return
            await self._clock.sleep(_STOPPING_PAUSE, until=asyncio.Event())

    async def _give_back_unstoppable(self) -> None:
        """
        Give back, as the last write, what runs on in this process, if that is the worker's own and ends with it.

        Also write the ends of what has ended since the settler's. The rest is left to be rescued.
        """
        unstoppable = [*self._running()]
        given = [attempt for attempt in unstoppable if self._owns_process and self._can_be_given_back(attempt)]
        if given:
            end_within(_ENDS_WITHIN)
        for attempt in given:
            job = attempt.job
            released = Settlement(id=job.id, token=job.token, end=End.RELEASE, delay=_FREE_AFTER, reason=SHUTTING_DOWN)
            self._settler.put(job, released)
        if self._settler.unsettled:
            settling = asyncio.create_task(self._settler.run())
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SETTLES):
                    await self._settler.wait_until_idle()
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)
        unwritten = self._settler.ends
        for attempt in unstoppable:
            job = attempt.job
            if attempt in given and (job.id, job.token) not in unwritten:
                level, words = logging.WARNING, "its process ends with it, and it starts again in 10 s at the earliest"
            else:
                level, words = logging.ERROR, "it is left to be rescued"
            _logger.log(level, "the job %s did not stop; %s", job.id, words, extra={"job_id": job.id})

    def _can_be_given_back(self, attempt: Attempt) -> bool:
        """Whether only the stop of the worker ends an attempt, and its row is not locked by its own transaction."""
        if attempt.stop is not Stop.SHUTDOWN:
            return False
        task = self._registry.resolve_for_run(attempt.job.task)
        return task is not None and not task.is_transactional

    @property
    def _is_busy(self) -> bool:
        if self.is_stuck and all(attempt.ignored for attempt in self._running()):
            # The attempts that are left do not end, and would use up the grace period.
            return any(consumer.is_claiming for consumer in self._consumers.values())
        return any(consumer.is_busy for consumer in self._consumers.values())

    async def _close_executors(self) -> None:
        await asyncio.gather(self._quarantine.close(), *(executor.close() for executor in self._executors.values()))

    # what others ask of this worker

    def _on_jobs(self, queue: str) -> None:
        if not queue:
            for consumer in self._consumers.values():
                consumer.hint()
            return
        entry = self._served.entry_for(queue)
        if entry is not None:
            self._consumers[entry].hint()

    def _on_solitude(self) -> None:
        for consumer in self._consumers.values():
            if self._solitude.is_wanted:
                consumer.give_back_held()
            else:
                consumer.hint()

    def _on_schedules(self) -> None:
        for name in ("promoter", "scheduler"):
            self._loops[name].wake()

    def _on_settled(self, answered: Sequence[Answered]) -> None:
        announce(self._bus, answered)
        soon = self._settings.poll_interval
        if any(settlement.delay and settlement.delay < soon for _, settlement, _ in answered):
            # Due before the promoter would look by itself.
            self._loops["promoter"].wake()

    def _on_beat(self, node: NodeId, beat: Beat) -> None:
        if node != self.node_id:
            return
        if beat.paused:
            for consumer in self._consumers.values():
                consumer.give_back_held_of(beat.paused)
        for job_id, reason in beat.cancels.items():
            self._cancel(job_id, reason)
        self._give_back_strays(beat.held)
        self._tell_of_long_jobs()
        if self._membership.has_new_tasks and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._membership.tell_tasks())

    def _tell_of_long_jobs(self) -> None:
        """Tell the store that jobs run which were claimed ahead as short ones, and still run at a beat."""
        untold = {attempt.job.id: attempt.job for attempt in self._running() if attempt.runs_untold}
        for job_id in untold.keys() - self._told:
            self._reporter.tell_start(untold[job_id])
        self._told = set(untold)

    def _cancel(self, job_id: JobId, reason: str) -> None:
        for consumer in self._consumers.values():
            attempt = consumer.running.get(job_id)
            if attempt is not None and Stop.CANCEL not in attempt.told:
                attempt.tell_to_stop(Stop.CANCEL, reason)
            consumer.give_back_held_one(job_id)

    def _give_back_strays(self, held: dict[JobId, ClaimToken]) -> None:
        """Give back what the store thinks runs here and does not: the answer of its claim was lost for good."""
        known = {job_id for consumer in self._consumers.values() for job_id in consumer.holds}
        claiming = {consumer.claiming for consumer in self._consumers.values()}
        # An end that was set aside could be overtaken: its job would run again.
        ending = self._settler.ends
        for job_id, token in held.items():
            if job_id not in known and token not in claiming and (job_id, token) not in ending:
                self._settler.forget(Settlement(id=job_id, token=token, end=End.RELEASE, reason="not started"))

    def _on_lost(self) -> None:
        """Stop all that runs: it belongs to others now."""
        self._bus.emit(NodeLost(node=self.node_id))
        self._lose_all()

    def _on_silence(self) -> None:
        self._lose_all()
        self._on_stuck("the thread of its heartbeat gives no sign of life")
        # What goes on here belongs to others soon: no time to end in.
        self.stop()

    def _lose_all(self) -> None:
        for consumer in self._consumers.values():
            consumer.drop_held()
            consumer.stop_running(Stop.LOST)

    def _on_joined(self) -> None:
        self._scheduler.expect_new_store()
        for consumer in self._consumers.values():
            consumer.hint()

    def _on_stuck(self, reason: str) -> None:
        if not self._stopping.is_set():
            # Only a new process goes on: let the rest finish, and be restarted.
            self.stuck_because = reason
            self._bus.emit(WorkerStuck(node=self.node_id, queues=self._settings.queues, reason=reason))
            self.stop()

    # parts

    def _running(self) -> Iterable[Attempt]:
        # Each copied at once: the loop watch asks from its own thread.
        return [attempt for consumer in self._consumers.values() for attempt in list(consumer.running.values())]

    def _token_of(self, job_id: JobId) -> ClaimToken | None:
        for consumer in self._consumers.values():
            attempt = consumer.running.get(job_id)
            if attempt is not None:
                return attempt.job.token
        return None

    def _call_settings(self) -> CallSettings:
        return CallSettings(
            max_result_bytes=self._settings.max_result_bytes,
            default_retry_delay=self._settings.default_retry_delay,
            default_max_retry_delay=self._settings.default_max_retry_delay,
            random=self._clock.random(),
        )

    def _make_executors(self) -> dict[ExecutorKind, Executor]:
        now, stalls = self._clock.monotonic, self._loop_watch.stalls
        return {
            ExecutorKind.COROUTINE: CoroutineExecutor(now=now, stalls=stalls),
            ExecutorKind.THREAD: ThreadExecutor(threads=sum(self._settings.queues.values()), now=now, stalls=stalls),
            ExecutorKind.PROCESS: self._process_executor,
        }

    def _make_quarantine(self, home: Callable[[], Home]) -> Quarantine:
        processes = ProcessExecutor(
            modules=lambda: (),
            reporter=self._reporter,
            settings=self._call_settings,
            deadlines=self._deadlines,
            memory_limit_mb=self._settings.process_memory_limit_mb,
            records=self._records,
        )
        return Quarantine(
            slots=self._settings.quarantine_slots,
            nursery=Nursery(processes=processes, home=home),
            solitude=self._solitude,
            bus=self._bus,
            on_free=partial(self._on_jobs, ""),
        )

    def _make_consumer(self, entry: str, slots: int) -> Consumer:
        name = f"consumer of {entry}"
        consumer = Consumer(
            self._served.pattern_of(entry) if is_pattern(entry) else entry,
            slots=slots,
            settings=self._settings,
            backend=self._backend,
            clock=self._clock,
            availability=self._availability,
            membership=self._membership,
            settler=self._settler,
            run=self._runner.run,
            solitude=self._solitude,
            quarantine_places=lambda: self._quarantine.free,
            base=self._base,
            fault=self._runner.fault,
            wake=lambda: self._loops[name].wake(),  # noqa: PLW0108 - the loop is made for the consumer
            on_freed=self._stuck_slots.note_end,
            name=name,
        )
        self._add(name, consumer, always_asks=False)
        return consumer

    def _make_maintainers(self, declare: Declare | None) -> None:
        backend, settings, clock, bus = self._backend, self._settings, self._clock, self._bus
        self._add("promoter", Promoter(backend=backend, settings=settings))
        self._scheduler = Scheduler(backend=backend, settings=settings, bus=bus, declare=declare)
        self._add("scheduler", self._scheduler)
        rescuer = Rescuer(
            backend=backend,
            settings=settings,
            clock=clock,
            bus=bus,
            membership=self._membership,
            trusted=lambda: [task.name for task in self._registry if not task.has_quarantine],
        )
        self._add("rescuer", rescuer)
        self._add("expirer", Expirer(backend=backend, settings=settings, bus=bus, node_id=lambda: self.node_id))
        self._add("pruner", Pruner(backend=backend, settings=settings, clock=clock, bus=bus))
        if isinstance(backend, Folding):
            self._add("folder of the counters", Folder(backend=backend, settings=settings))

    def _add(self, name: str, role: Role, *, always_asks: bool = True) -> None:
        self._loops[name] = RoleLoop(
            name,
            role,
            clock=self._clock,
            availability=self._availability,
            on_lost=self._joining.rejoin,
            always_asks=always_asks,
        )
