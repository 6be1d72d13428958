"""The PostgreSQL backend: each method of the protocol is one statement, or one short transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from deeper_tasks.backends.postgres import (
    consuming,
    control,
    diagnosis,
    insert,
    listing,
    maintenance,
    reads,
    schedules,
    schema,
    session,
    unique_keys,
)
from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.backends.postgres.claim_floor import ClaimFloor, PatternClaimFloor
from deeper_tasks.backends.postgres.codec import Row, moment_text
from deeper_tasks.backends.postgres.database import Database, Operation
from deeper_tasks.backends.postgres.hints import Hints
from deeper_tasks.backends.postgres.job_transaction import PostgresJobTransaction
from deeper_tasks.backends.postgres.joining import OtherDatabaseError, insert_joining
from deeper_tasks.backends.postgres.refusals import OtherStoreError
from deeper_tasks.backends.postgres.transactor import Transactor
from deeper_tasks.backends.protocol import (
    MAX_BATCH,
    Beat,
    Capabilities,
    Claim,
    Counts,
    JobFilter,
    JobList,
    JobQuery,
    Node,
    NodeRecord,
    Notification,
    Promotion,
    QueueSettings,
    Rescue,
    Retention,
    Retried,
    Service,
)
from deeper_tasks.backends.steps import each_of
from deeper_tasks.domain.finding import Finding
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import Insertion, Job, NewJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun
from deeper_tasks.domain.settlement import MovedJob, Report, Settled, Settlement
from deeper_tasks.errors import BackendError, BackendUnavailableError, UnsupportedError

T = TypeVar("T")


class PostgresBackend:
    """A store in a schema of a PostgreSQL database, for any number of processes on any number of machines."""

    def __init__(self, address: Address) -> None:
        self.capabilities = Capabilities(
            is_durable=True,
            is_shared=True,
            has_transactions=True,
            has_job_transactions=True,
            has_hints=address.can_listen,
            insert_sends_hints=True,
        )
        self._database = Database(address)
        self._wake = Hints(self._database)
        self._transactor = Transactor(address)
        self._store: str | None = None
        self._claim_floor: defaultdict[str, ClaimFloor] = defaultdict(ClaimFloor)
        self._pattern_frontiers: defaultdict[QueuePattern, PatternClaimFloor] = defaultdict(PatternClaimFloor)

    # life

    async def open(self, *, create: bool = True, will_join: bool = False) -> bool:  # noqa: ARG002 - no writer waits
        if self._store is not None:
            return False
        is_new = False
        self._database.connections.reopen()
        try:
            address = self._database.address
            await self._database.ask(partial(session.check, address=address))
            if await self._database.ask(partial(schema.missing, address=address)):
                async with self._database.alone() as connection:
                    is_new = await schema.make_ready(connection, address, create=create)
            await self._meet_new_store()
            self._wake.open()
        except BaseException:
            await self.close()
            raise
        return is_new

    async def close(self) -> None:
        self._store = None
        self._transactor.close()
        await self._wake.close()
        await self._database.connections.close()

    async def migrate(self) -> tuple[str, ...]:
        self._database.connections.reopen()
        try:
            async with self._database.alone() as connection:
                return await schema.migrate(connection, self._database.address)
        finally:
            if self._store is None:
                await self.close()

    async def migration_script(self, *, is_whole: bool = False) -> str:
        address = self._database.address
        if is_whole:
            return schema.script(address, schema.known_migrations(), is_new=True)
        self._database.connections.reopen()
        try:
            async with self._database.alone() as connection:
                return await schema.script_for(connection, address)
        finally:
            if self._store is None:
                await self.close()

    # produce

    async def insert(
        self,
        jobs: Sequence[NewJob],
        *,
        atomic: bool = True,
        connection: object | None = None,
        now: datetime | None = None,
    ) -> list[Insertion]:
        most = self.capabilities.max_atomic_insert
        if atomic and len(jobs) > most:
            raise UnsupportedError(f"{len(jobs)} jobs are more than one insert takes ({most}); use atomic=False")
        batches = [jobs[start : start + most] for start in range(0, len(jobs), most)]
        answers: list[Insertion] = []
        try:
            if connection is not None:
                return await self._insert_joining(connection, batches, now=moment_text(now))
            for batch in batches:
                answers += await self._insert(batch, now=moment_text(now))
        except BackendUnavailableError as error:
            error.job_ids = tuple(job.id for job in jobs)
            raise
        return answers

    async def _insert(self, batch: Sequence[NewJob], *, now: str | None) -> list[Insertion]:
        try:
            return await insert.insert(self._open, batch, store=self._id, now=now, wake=self._wake)
        except OtherStoreError:
            await self._meet_new_store()
            return await insert.insert(self._open, batch, store=self._id, now=now, wake=self._wake)

    async def _insert_joining(
        self, connection: object, batches: Sequence[Sequence[NewJob]], *, now: str | None
    ) -> list[Insertion]:
        address = self._database.address
        try:
            return await insert_joining(connection, batches, address=address, store=self._id, now=now)
        except OtherDatabaseError:
            if not await self._meets_new_store_at_once():
                raise
            return await insert_joining(connection, batches, address=address, store=self._id, now=now)

    # consume

    async def register(self, node: Node, *, tasks: frozenset[str] | None = None, now: datetime | None = None) -> None:
        await self._run(partial(consuming.register, node=node, tasks=tasks, now=moment_text(now)))

    async def deregister(self, node: NodeId) -> None:
        await self._run(partial(consuming.deregister, node=node))

    async def claim(
        self,
        queue: str | QueuePattern,
        *,
        limit: int,
        slots: int,
        node: NodeId,
        token: ClaimToken,
        after: str = "",
        quarantined: int = MAX_BATCH,
        now: datetime | None = None,
    ) -> Claim:
        at = moment_text(now)
        if isinstance(queue, QueuePattern):
            beyond = self._pattern_frontiers[queue]
            return await consuming.claim_in_turn(
                self._open,
                beyond,
                queue,
                limit=limit,
                slots=slots,
                node=node,
                token=token,
                after=after,
                quarantined=quarantined,
                now=at,
            )
        return await consuming.claim(
            self._open,
            self._claim_floor[queue],
            queue,
            limit=limit,
            slots=slots,
            node=node,
            token=token,
            quarantined=quarantined,
            now=at,
        )

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        return await consuming.settle(self._open, settlements, now=moment_text(now))

    async def report(self, reports: Sequence[Report], *, now: datetime | None = None) -> list[JobId]:
        return await consuming.report(self._open, reports, now=moment_text(now))

    async def beat(self, node: NodeId, *, busy: int = 0, now: datetime | None = None) -> Beat:
        return await consuming.beat(self._open, node, busy=busy, now=moment_text(now))

    async def begin(
        self, *, is_async: bool, limit: timedelta | None = None, now: datetime | None = None
    ) -> PostgresJobTransaction:
        _ = self._open
        return await self._transactor.begin(is_async=is_async, limit=limit, now=moment_text(now))

    # maintain

    async def promote(self, *, now: datetime | None = None) -> Promotion:
        return await maintenance.promote(self._open, now=moment_text(now))

    async def fold(self) -> bool:
        return await maintenance.fold(self._open)

    async def rescue(
        self, node: NodeId, *, beat: int, trusted: Collection[str] = (), now: datetime | None = None
    ) -> Rescue:
        return await self._run(partial(maintenance.rescue, node=node, beat=beat, trusted=trusted, now=moment_text(now)))

    async def expire(self, *, now: datetime | None = None) -> list[MovedJob]:
        return await self._run(partial(maintenance.expire, now=moment_text(now)))

    async def prune(self, retention: Retention, *, now: datetime | None = None) -> int:
        moment = moment_text(now)
        deleted, *_ = await each_of(
            partial(self._run, partial(maintenance.prune, retention=retention, now=moment)),
            partial(self._run, partial(maintenance.prune_counts, now=moment)),
            partial(self._run, partial(maintenance.prune_nodes, now=moment)),
            partial(self._run, partial(maintenance.replace_missing_nodes, now=moment)),
            partial(self._prune_keys, moment),
        )
        return deleted

    async def _prune_keys(self, now: str | None) -> int:
        total = 0
        while (count := await self._run(partial(unique_keys.prune, now=now))) == MAX_BATCH:
            total += count
        return total + count

    # schedules

    async def put_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> ScheduleEntry:
        return await self._run(partial(schedules.put_schedule, schedule=schedule, now=moment_text(now)))

    async def pause_schedule(self, name: str, *, is_paused: bool, now: datetime | None = None) -> ScheduleEntry | None:
        return await self._run(partial(schedules.pause_schedule, name=name, is_paused=is_paused, now=moment_text(now)))

    async def remove_schedule(self, name: str, *, is_remembered: bool = False) -> bool:
        return await self._run(partial(schedules.remove_schedule, name=name, is_remembered=is_remembered))

    async def schedules(self, *, now: datetime | None = None) -> ScheduleBook:
        return await self._run(partial(schedules.schedules, now=moment_text(now)))

    async def fire(self, firing: Firing, *, now: datetime | None = None) -> Fired | None:
        return await self._run_in_store(partial(schedules.fire, firing=firing, now=moment_text(now)))

    async def run_schedule(self, name: str, *, job_id: JobId, now: datetime | None = None) -> RunNow | None:
        return await self._run_in_store(partial(schedules.run_schedule, name=name, job_id=job_id, now=moment_text(now)))

    async def schedule_runs(self, name: str, *, limit: int = MAX_KEPT_RUNS) -> list[ScheduleRun]:
        return await self._run(partial(schedules.schedule_runs, name=name, limit=limit))

    # control

    async def cancel(self, target: JobFilter, *, reason: str, now: datetime | None = None) -> list[MovedJob]:
        return await self._run(partial(control.cancel, target=target, reason=reason, now=moment_text(now)))

    async def retry(self, target: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        return await self._run(partial(control.retry, target=target, now=moment_text(now)))

    async def reschedule(
        self, job_id: JobId, *, due: datetime | timedelta | None, now: datetime | None = None
    ) -> Rescheduled | None:
        return await self._run(partial(control.reschedule, job_id=job_id, due=due, now=moment_text(now)))

    async def delete(self, target: JobFilter) -> list[JobId]:
        return await self._run(partial(control.delete, target=target))

    async def put_queue(self, settings: QueueSettings) -> None:
        await self._run(partial(control.put_queue, settings=settings))

    # look

    async def get(self, job_id: JobId) -> Job | None:
        return await self._run(partial(reads.get, job_id=job_id))

    async def find(self, query: JobQuery) -> JobList:
        return await self._open.survey(partial(listing.find, query=query))

    async def find_ids(self, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
        return await self._run(partial(reads.find_ids, beginnings=beginnings, limit=limit))

    async def statistics(self, *, now: datetime | None = None) -> Counts:
        return await self._run(partial(reads.statistics, now=moment_text(now)))

    async def service(self, queue: str, *, task: str, now: datetime | None = None) -> Service:
        return await self._run(partial(reads.service, queue=queue, task=task, now=moment_text(now)))

    async def nodes(self) -> list[NodeRecord]:
        return await self._run(reads.nodes)

    async def queues(self) -> list[QueueSettings]:
        return await self._run(reads.queues)

    # diagnosis

    async def walk(self, *, after: JobId | None, limit: int) -> list[Job]:
        return await self._open.survey(partial(reads.walk, after=after, limit=limit))

    async def diagnose(self, *, deep: bool = False) -> list[Finding]:
        self._database.connections.reopen()
        try:
            return await diagnosis.examine(self._database, deep=deep)
        finally:
            if self._store is None:
                await self.close()

    # wake

    async def notify(self, notifications: Sequence[Notification]) -> None:
        await self._wake.notify(notifications)

    def listen(self) -> AsyncIterator[Notification]:
        return self._wake.listen()

    # the database

    @property
    def _id(self) -> str:
        if self._store is None:
            raise BackendUnavailableError("the store is not open; use 'async with manager:' or 'await manager.open()'")
        return self._store

    @property
    def _open(self) -> Database:
        _ = self._id
        return self._database

    async def _run(self, operation: Operation[T]) -> T:
        return await self._open.run(operation)

    async def _run_in_store(self, operation: Callable[..., Awaitable[T]]) -> T:
        """Run an operation that takes the id of the `store`."""
        try:
            return await self._run(partial(operation, store=self._id))
        except OtherStoreError:
            await self._meet_new_store()
            return await self._run(partial(operation, store=self._id))

    async def _meets_new_store_at_once(self) -> bool:
        """The same as `_meet_new_store`; False where the store cannot be asked, as by the caller who is dropping it."""
        try:
            return self._take(await self._database.run(schema.look_at_store))
        except BackendError:
            return False

    async def _meet_new_store(self) -> bool:
        """Take the store that is there for ours; returns whether it is another than before."""
        return self._take(await self._database.call(schema.SELECT_STORE, {}))

    def _take(self, rows: Sequence[Row]) -> bool:
        before = self._store
        self._store = schema.one_store(rows, self._database.address)
        if self._store == before:
            return False
        # They tell how far the jobs of the one before were claimed.
        self._claim_floor.clear()
        self._pattern_frontiers.clear()
        return True
