"""The assembly of a worker: makes its parts from settings and collaborators, and connects them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from deeper_tasks.integrations.events import NodeLost
from deeper_tasks.tasks import ExecutorKind
from deeper_tasks.worker.announcer import Announcer
from deeper_tasks.worker.attempts.running_attempts import RunningAttempts
from deeper_tasks.worker.beat_handler import BeatHandler
from deeper_tasks.worker.claiming.consumer import Consumer, ConsumerParts
from deeper_tasks.worker.claiming.consumers import Consumers
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.execution.deadlines import Deadlines
from deeper_tasks.worker.execution.executors.application import application_of
from deeper_tasks.worker.execution.executors.assembly import assemble_executors
from deeper_tasks.worker.execution.executors.nursery import Nursery
from deeper_tasks.worker.execution.executors.process import ProcessExecutor
from deeper_tasks.worker.execution.job_log_records import JobRecords
from deeper_tasks.worker.execution.parts import assemble_execution
from deeper_tasks.worker.execution.quarantine import Quarantine
from deeper_tasks.worker.execution.runner import Runner
from deeper_tasks.worker.execution.solitude import Solitude
from deeper_tasks.worker.execution.stuck_slots import StuckSlots
from deeper_tasks.worker.hooks.hook_run import HookRun
from deeper_tasks.worker.listener import Listener
from deeper_tasks.worker.liveness.heartbeat import Heartbeat
from deeper_tasks.worker.liveness.heartbeat_watch import HeartbeatWatch
from deeper_tasks.worker.liveness.joining import Joining
from deeper_tasks.worker.liveness.last_resort import LastResort
from deeper_tasks.worker.liveness.loop_watch import LoopWatch
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.maintenance.maintenance import Maintenance
from deeper_tasks.worker.process.exits import owns_process
from deeper_tasks.worker.role_loops import RoleLoops
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.settling.settlement_events import announce, announce_end
from deeper_tasks.worker.settling.settler import Answered, Settler
from deeper_tasks.worker.stop_request import StopRequest
from deeper_tasks.worker.store_access import StoreAccess


class WorkerParts:
    """
    The parts of one worker. To be made inside its event loop; nothing runs yet.

    Each part knows only the parts that it needs, and this class is the only one that knows all of them.
    """

    def __init__(self, collaborators: Collaborators, settings: WorkerSettings) -> None:
        self.collaborators = collaborators
        self.settings = settings
        self.store = StoreAccess.of(collaborators)
        self.records = JobRecords(collaborators.redactor)
        self.base = BaseContext()
        self.hooks = HookRun(collaborators.hooks, clock=collaborators.clock)
        self.running = RunningAttempts()
        self.consumers = Consumers(settings.queues, running=self.running)
        self._assemble_membership()
        self._assemble_loop_watch()
        self._assemble_execution()
        self._assemble_quarantine()
        self._assemble_settling()
        self._assemble_roles()
        self._assemble_signs_of_life()

    def _assemble_membership(self) -> None:
        collaborators, settings, store = self.collaborators, self.settings, self.store
        self.membership = Membership(backend=store.backend, settings=settings, tasks=collaborators.registry.names)
        self.announcer = Announcer(collaborators.bus, membership=self.membership, queues=settings.queues)
        self.joining = Joining(
            membership=self.membership,
            availability=store.availability,
            clock=store.clock,
            on_lost=self._on_lost,
            on_joined=self._on_joined,
        )

    def _assemble_loop_watch(self) -> None:
        settings = self.settings
        self.owns_process = owns_process(asyncio.get_running_loop())
        self.last_resort = LastResort(
            settings=settings, running=self.running.all, clock=self.store.clock, owns_process=self.owns_process
        )
        self.stop_request = StopRequest(last_resort=self.last_resort, joining=self.joining, announcer=self.announcer)
        self.loop_watch = LoopWatch(
            settings=settings,
            running=self.running.all,
            bus=self.collaborators.bus,
            last_resort=self.last_resort,
            hook=lambda: self.hooks.calling,
        )

    def _assemble_execution(self) -> None:
        collaborators, settings, clock = self.collaborators, self.settings, self.store.clock
        self.stuck_slots = StuckSlots(
            settings=settings,
            running=self.running.all,
            clock=clock,
            bus=collaborators.bus,
            on_stuck=self.stop_request.stop_stuck,
        )
        deadlines = Deadlines(
            running=self.running.all,
            clock=clock,
            on_ignored=self.stuck_slots.note_ignored,
            stuck_after=settings.stuck_after,
        )
        self.execution = assemble_execution(
            collaborators, settings, store=self.store, running=self.running, deadlines=deadlines
        )
        self.processes = ProcessExecutor(
            self.execution, application=application_of(collaborators), records=self.records
        )
        self.executors = assemble_executors(
            self.execution,
            threads=sum(settings.queues.values()),
            process=self.processes,
            stalls=self.loop_watch.stalls,
        )

    def _assemble_quarantine(self) -> None:
        self.solitude = Solitude(
            running=self.running.all,
            clock=self.store.clock,
            is_stopping=self.stop_request.requested.is_set,
            on_change=self._on_solitude,
        )
        # A zygote of their own, which imports nothing: a child imports the application as a worker does.
        processes = ProcessExecutor(self.execution, records=self.records)
        self.quarantine = Quarantine(
            slots=self.settings.quarantine_slots,
            nursery=Nursery(processes=processes, home=self.collaborators.home),
            solitude=self.solitude,
            bus=self.collaborators.bus,
            on_free=self.consumers.hint,
        )
        self.runner = Runner(
            self.execution, executors=self.executors, state=self.hooks.state, quarantine=self.quarantine
        )

    def _assemble_settling(self) -> None:
        self.settler = Settler(
            self.store,
            on_settled=self._on_settled,
            on_stray_ended=partial(announce_end, self.collaborators.bus),
            redaction=self.execution.redaction,
        )

    def _assemble_roles(self) -> None:
        self.loops = RoleLoops(self.store, on_lost=self.joining.rejoin)
        parts = ConsumerParts(
            settings=self.settings,
            store=self.store,
            membership=self.membership,
            settler=self.settler,
            run=self.runner.run,
            fault=self.runner.fault,
            base=self.base,
            solitude=self.solitude,
            quarantine_places=lambda: self.quarantine.free,
            on_freed=self.stuck_slots.note_end,
        )
        for entry, slots in self.settings.queues.items():
            self._add_consumer(entry, parts, slots=slots)
        consuming = [*self.loops]
        self.maintenance = Maintenance(self.collaborators, self.settings, membership=self.membership)
        for name, role in self.maintenance.roles.items():
            self.loops.add(name, role)
        # The promoter too, because a consumer whose slots are full asks the store nothing.
        self.vital = (*consuming, self.loops["promoter"])

    def _add_consumer(self, entry: str, parts: ConsumerParts, *, slots: int) -> None:
        name = f"consumer of {entry}"
        consumer = Consumer(
            self.consumers.queue_of(entry),
            parts,
            slots=slots,
            running=self.running.new_group(),
            wake=lambda: loop.wake(),  # noqa: PLW0108 - the loop is made for the consumer
        )
        self.consumers.add(entry, consumer)
        loop = self.loops.add(name, consumer, always_asks=False)

    def _assemble_signs_of_life(self) -> None:
        answers = BeatHandler(
            self.consumers,
            settler=self.settler,
            reporter=self.execution.reporter,
            membership=self.membership,
            joining=self.joining,
        )
        self.beat_handler = answers
        self.heartbeat = Heartbeat(self.store, membership=self.membership, settings=self.settings, answers=answers)
        self.heartbeat_watch = HeartbeatWatch(
            signs=lambda: self.heartbeat.signs, lease=self.settings.lease, on_silence=self._on_silence
        )
        self.listener = Listener(
            self.store,
            on_jobs=self.consumers.hint,
            on_control=self.heartbeat.beat_now,
            on_schedules=lambda: self.loops.wake("promoter", "scheduler"),
        )

    @property
    def has_process_tasks(self) -> bool:
        """Whether any task of the application runs in processes."""
        return any(task.executor is ExecutorKind.PROCESS for task in self.collaborators.registry)

    async def close_executors(self) -> None:
        """Close the executors and the quarantine, beside each other."""
        await asyncio.gather(self.quarantine.close(), *(executor.close() for executor in self.executors.values()))

    # called by the parts

    def _on_lost(self) -> None:
        """Interrupt all that runs: other workers have the jobs now."""
        self.collaborators.bus.emit(NodeLost(node=self.membership.node_id))
        self.consumers.lose_all()

    def _on_joined(self) -> None:
        if self.maintenance.scheduler is not None:
            self.maintenance.scheduler.expect_new_store()
        self.consumers.hint()

    def _on_silence(self) -> None:
        self.consumers.lose_all()
        self.stop_request.stop_stuck("the thread of its heartbeat gives no sign of life")
        # Urgent, because other workers have the jobs that run here soon.
        self.stop_request.stop()

    def _on_solitude(self) -> None:
        if self.solitude.is_wanted:
            self.consumers.give_back_held()
        else:
            self.consumers.hint()

    def _on_settled(self, answered: Sequence[Answered]) -> None:
        announce(self.collaborators.bus, answered)
        soon = self.settings.poll_interval
        if any(settlement.delay and settlement.delay < soon for _, settlement, _ in answered):
            # Due before the promoter would look by itself.
            self.loops.wake("promoter")
