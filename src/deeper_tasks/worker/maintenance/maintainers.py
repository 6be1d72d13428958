"""The maintainers: roles that keep the store in order. Every worker has them, and there is no leader."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from deeper_tasks.backends.protocol import Backend, Folding, NodeRecord, Role
from deeper_tasks.backends.steps import each_of
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.settlement import MovedJob
from deeper_tasks.integrations.events import CleanupRan, EventBus, JobRescued
from deeper_tasks.worker.clock import Clock
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.liveness.host import is_known_dead
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.maintenance.capacity_watch import CapacityWatch
from deeper_tasks.worker.maintenance.clock_watch import ClockWatch
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.settling.settlement_events import announce_end

_AT_ONCE = timedelta(0)
_LOOK_AT_NODES = timedelta(seconds=1)
_LOOKS_A_LEASE = 4


class Promoter:
    """Makes scheduled and retryable jobs pending when they are due."""

    def __init__(self, *, backend: Backend, settings: WorkerSettings) -> None:
        self._backend = backend
        self._longest = settings.poll_interval

    async def turn(self) -> timedelta:
        """Promote a batch; sleeps until the next job is due."""
        promotion = await self._backend.promote()
        if promotion.count == self._backend.capabilities.max_batch:
            return _AT_ONCE
        return min(promotion.next_due_in or self._longest, self._longest)


class Folder:
    """Brings the counters up to date, in stores that leave that to the workers."""

    def __init__(self, *, backend: Folding, settings: WorkerSettings) -> None:
        self._backend = backend
        self._pause = settings.poll_interval

    async def turn(self) -> timedelta:
        """Fold a batch."""
        return _AT_ONCE if await self._backend.fold() else self._pause


class Rescuer:
    """
    Gives the jobs of dead workers to living ones.

    A node is dead when its beat stayed the same through a whole lease on this
    worker's own clock, seen by reads without a gap, while this worker's own beats
    were written. So an outage of the store, a long transaction of another client that
    lets the store only be read, or a suspended machine makes no node look dead. A process
    of this machine that has ended is known at once. If another transaction holds a node's
    row, the node's lease begins anew.
    """

    def __init__(
        self,
        collaborators: Collaborators,
        settings: WorkerSettings,
        *,
        membership: Membership,
    ) -> None:
        self._backend = collaborators.backend
        self._registry = collaborators.registry
        self._clock = collaborators.clock
        self._bus = collaborators.bus
        self._membership = membership
        self._lease = settings.lease.total_seconds()
        self._widest_gap = self._lease / 2
        # Between the time when a beat is due and the end of the lease.
        self._longest_silence = (self._lease + settings.heartbeat.total_seconds()) / 2
        # Well under the widest gap, also for a short lease: otherwise no node would ever look dead.
        self._pause = min(_LOOK_AT_NODES, settings.lease / _LOOKS_A_LEASE)
        self._looked_at = -self._lease
        self._seen: dict[NodeId, tuple[int, float]] = {}

    async def turn(self) -> timedelta:
        """Look at all nodes once."""
        records = await self._backend.nodes()
        now = self._clock.monotonic()
        if now - self._looked_at > self._widest_gap:
            self._seen.clear()
        self._looked_at = now
        self._seen = {record.node.id: self._sighting(record, now) for record in records}
        self._overlook_silence(now)
        dead = [record for record in records if record.is_lost or self._is_dead(record, now)]
        await each_of(*(partial(self._rescue, record) for record in dead))
        return self._pause

    def _sighting(self, record: NodeRecord, now: float) -> tuple[int, float]:
        seen = self._seen.get(record.node.id)
        return seen if seen is not None and seen[0] == record.beat else (record.beat, now)

    def _overlook_silence(self, now: float) -> None:
        """Let all leases begin anew while this worker's own beats fail: perhaps no worker's beat is written."""
        own = self._seen.get(self._membership.node_id)
        if own is None or now - own[1] > self._longest_silence:
            self._seen = {node: (beat, now) for node, (beat, _) in self._seen.items()}
            if own is not None:
                self._seen[self._membership.node_id] = own

    def _is_dead(self, record: NodeRecord, now: float) -> bool:
        if record.node.id == self._membership.node_id:
            # Other workers judge this one.
            return False
        _, since = self._seen[record.node.id]
        return now - since >= self._lease or is_known_dead(record.node)

    async def _rescue(self, record: NodeRecord) -> None:
        is_finished, trusted = False, [task.name for task in self._registry if not task.has_quarantine]
        while not is_finished:
            rescue = await self._backend.rescue(record.node.id, beat=record.beat, trusted=trusted)
            self._seen.pop(record.node.id, None)
            is_finished = rescue.is_finished
            for job in rescue.jobs:
                self._tell(job, record.node.id)

    def _tell(self, job: MovedJob, node: NodeId) -> None:
        self._bus.emit(
            JobRescued(job_id=job.id, task=job.task, queue=job.queue, attempt=job.attempt, node=node, state=job.state)
        )
        announce_end(self._bus, job)


class Expirer:
    """Fails the jobs that did not start in time, and warns of queues near their capacity."""

    def __init__(
        self,
        *,
        backend: Backend,
        settings: WorkerSettings,
        bus: EventBus,
        node_id: Callable[[], NodeId | None] = lambda: None,
    ) -> None:
        self._backend = backend
        self._poll_interval = settings.poll_interval
        self._bus = bus
        capacity = settings.queue_capacity
        self._capacity = (
            None
            if capacity is None
            else CapacityWatch(capacity=capacity, lease=settings.lease, node_id=node_id, bus=bus)
        )

    async def turn(self) -> timedelta:
        """Expire a batch."""
        is_full, _ = await each_of(self._expire, self._look_at_capacity)
        return _AT_ONCE if is_full else self._poll_interval

    async def _expire(self) -> bool:
        expired = await self._backend.expire()
        for job in expired:
            announce_end(self._bus, job)
        return len(expired) == self._backend.capabilities.max_batch

    async def _look_at_capacity(self) -> bool:
        if self._capacity is None:
            return False
        self._capacity.look(await self._backend.statistics())
        return True


class Pruner:
    """
    Deletes ended jobs past their retention, a small batch at a time.

    It deletes nothing while the store's clock has just stepped by more than a day: a clock that is a year
    ahead for a minute would have all ended jobs deleted.
    """

    def __init__(self, *, backend: Backend, settings: WorkerSettings, clock: Clock, bus: EventBus) -> None:
        self._backend = backend
        self._settings = settings
        self._clock = clock
        self._bus = bus
        self._watch = ClockWatch()

    async def turn(self) -> timedelta:
        """Prune one batch; more follow soon where it was full."""
        started = self._clock.monotonic()
        now = await self._store_time()
        if not self._watch.believes(now, monotonic=started):
            return self._settings.cleanup_interval
        # With the time that was just judged, because the store's clock may step before this call is carried out.
        deleted = await self._backend.prune(self._settings.retention, now=now)
        if deleted:
            took = timedelta(seconds=self._clock.monotonic() - started)
            self._bus.emit(CleanupRan(deleted=deleted, took=took))
        # Not at once, so that other writes come between two batches.
        is_full = deleted == self._backend.capabilities.max_batch
        return timedelta(milliseconds=50) if is_full else self._settings.cleanup_interval

    async def _store_time(self) -> datetime:
        """Return the time of the store, by its cheapest call that says it."""
        if Role.SCHEDULES in self._backend.capabilities.roles:
            return (await self._backend.schedules()).now
        return (await self._backend.statistics()).now
