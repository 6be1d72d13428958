"""The PostgreSQL backend: each method of the protocol is one statement, or one short transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from deeper_tasks.backends import hints
from deeper_tasks.backends.postgres import (
    claiming,
    control,
    diagnosis,
    insert,
    listing,
    maintenance,
    nodes,
    pruning,
    reads,
    reporting,
    schedules,
    schema,
    session,
    settling,
    transitions,
)
from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.backends.postgres.claim_floor import ClaimFloor, PatternClaimFloor
from deeper_tasks.backends.postgres.codec import moment_text
from deeper_tasks.backends.postgres.database import Database, Operation
from deeper_tasks.backends.postgres.hints import Hints
from deeper_tasks.backends.postgres.job_transaction import PostgresJobTransaction
from deeper_tasks.backends.postgres.joining import OtherDatabaseError, insert_joining, is_async
from deeper_tasks.backends.postgres.store_identity import StoreIdentity
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
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId, RequestId
from deeper_tasks.domain.job import Insertion, Job, NewJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun
from deeper_tasks.domain.settlement import MovedJob, Report, Settled, Settlement
from deeper_tasks.errors import BackendUnavailableError, UnsupportedError

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
        )
        self._database = Database(address)
        self._hints = Hints(self._database)
        self._transactor = Transactor(address)
        self._store = StoreIdentity(self._database, on_change=self._forget_claims)
        self._claim_floors: defaultdict[str, ClaimFloor] = defaultdict(ClaimFloor)
        self._pattern_claim_floors: defaultdict[QueuePattern, PatternClaimFloor] = defaultdict(PatternClaimFloor)

    # opening and closing

    async def open(self, *, create: bool = True, will_join: bool = False) -> bool:  # noqa: ARG002 - no writer waits
        if self._store.is_known:
            return False
        is_new = False
        self._database.connections.reopen()
        try:
            address = self._database.address
            await self._database.ask(partial(session.check, address=address))
            if await self._database.ask(partial(schema.missing, address=address)):
                async with self._database.lend_without_deadline() as connection:
                    is_new = await schema.make_ready(connection, address, create=create)
            await self._store.read()
            self._hints.open()
        except BaseException:
            await self.close()
            raise
        return is_new

    async def close(self) -> None:
        self._store.forget()
        self._transactor.close()
        await self._hints.close()
        await self._database.connections.close()

    async def migrate(self) -> tuple[str, ...]:
        self._database.connections.reopen()
        try:
            async with self._database.lend_without_deadline() as connection:
                return await schema.migrate(connection, self._database.address)
        finally:
            if not self._store.is_known:
                await self.close()

    async def migration_script(self, *, is_whole: bool = False) -> str:
        address = self._database.address
        if is_whole:
            return schema.script(address, schema.known_migrations(), is_new=True)
        self._database.connections.reopen()
        try:
            async with self._database.lend_without_deadline() as connection:
                return await schema.script_for(connection, address)
        finally:
            if not self._store.is_known:
                await self.close()

    # inserting

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
            raise UnsupportedError(f"{len(jobs)} jobs do not fit into one insert of at most {most}; use atomic=False")
        batches = [jobs[start : start + most] for start in range(0, len(jobs), most)]
        answers: list[Insertion] = []
        try:
            if connection is not None:
                return await self._insert_joining(connection, batches, now=moment_text(now))
            for batch in batches:
                answers += await self._insert(batch, now=moment_text(now))
        except BackendUnavailableError as error:
            error.request_ids = tuple(job.request_id for job in jobs)
            raise
        return answers

    async def _insert(self, batch: Sequence[NewJob], *, now: str | None) -> list[Insertion]:
        return await self._store.run(
            lambda store: insert.insert(self._opened, batch, store=store, now=now, hints=self._hints)
        )

    async def _insert_joining(
        self, connection: object, batches: Sequence[Sequence[NewJob]], *, now: str | None
    ) -> list[Insertion]:
        address = self._database.address
        try:
            return await insert_joining(connection, batches, address=address, store=self._store.id, now=now)
        except OtherDatabaseError:
            is_another = (
                await self._store.read_without_waiting() if is_async(connection) else self._store.read_blocking()
            )
            if not is_another:
                raise
            return await insert_joining(connection, batches, address=address, store=self._store.id, now=now)

    # consuming

    async def register(self, node: Node, *, tasks: frozenset[str] | None = None, now: datetime | None = None) -> None:
        await self._run(partial(nodes.register, node=node, tasks=tasks, now=moment_text(now)))

    async def deregister(self, node: NodeId) -> None:
        await self._run(partial(nodes.deregister, node=node))

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
        claim = (
            partial(claiming.claim_in_turn, self._opened, self._pattern_claim_floors[queue], queue, after=after)
            if isinstance(queue, QueuePattern)
            else partial(claiming.claim, self._opened, self._claim_floors[queue], queue)
        )
        return await claim(
            limit=limit, slots=slots, node=node, token=token, quarantined=quarantined, now=moment_text(now)
        )

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        settled = await settling.settle(self._opened, settlements, now=moment_text(now))
        if wanted := await settling.hints_after(self._opened, settlements, settled):
            await self._hints.notify(wanted)
        return settled

    async def report(self, reports: Sequence[Report], *, now: datetime | None = None) -> list[JobId]:
        return await reporting.report(self._opened, reports, now=moment_text(now))

    async def beat(self, node: NodeId, *, busy: int = 0, now: datetime | None = None) -> Beat:
        return await nodes.beat(self._opened, node, busy=busy, now=moment_text(now))

    async def begin(
        self, *, is_async: bool, limit: timedelta | None = None, now: datetime | None = None
    ) -> PostgresJobTransaction:
        _ = self._opened
        return await self._transactor.begin(is_async=is_async, limit=limit, now=moment_text(now))

    # maintenance

    async def promote(self, *, now: datetime | None = None) -> Promotion:
        promotion = await maintenance.promote(self._opened, now=moment_text(now))
        await self._hints.notify(hints.new_pending(promotion.queues))
        return promotion

    async def fold(self) -> bool:
        return await maintenance.fold(self._opened)

    async def rescue(
        self, node: NodeId, *, beat: int, trusted: Collection[str] = (), now: datetime | None = None
    ) -> Rescue:
        rescue = await self._run(
            partial(maintenance.rescue, node=node, beat=beat, trusted=trusted, now=moment_text(now))
        )
        await self._hints.notify(hints.new_pending(rescue.queues))
        return rescue

    async def expire(self, *, now: datetime | None = None) -> list[MovedJob]:
        return await self._run(partial(maintenance.expire, now=moment_text(now)))

    async def prune(self, retention: Retention, *, now: datetime | None = None) -> int:
        moment = moment_text(now)
        deleted, *_ = await each_of(
            partial(self._run, partial(pruning.prune_jobs, retention=retention, now=moment)),
            partial(self._run, partial(pruning.prune_counts, now=moment)),
            partial(self._run, partial(pruning.prune_nodes, now=moment)),
            partial(self._run, partial(pruning.replace_missing_nodes, now=moment)),
            partial(self._prune_keys, moment),
        )
        return deleted

    async def _prune_keys(self, now: str | None) -> int:
        total = 0
        while (count := await self._run(partial(transitions.prune_keys, now=now))) == MAX_BATCH:
            total += count
        return total + count

    # schedules

    async def put_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> ScheduleEntry:
        entry = await self._run(partial(schedules.put_schedule, schedule=schedule, now=moment_text(now)))
        await self._hints.notify(hints.after_new_next_run())
        return entry

    async def pause_schedule(self, name: str, *, is_paused: bool, now: datetime | None = None) -> ScheduleEntry | None:
        entry = await self._run(partial(schedules.pause_schedule, name=name, is_paused=is_paused, now=moment_text(now)))
        if entry is not None and not is_paused:
            await self._hints.notify(hints.after_new_next_run())
        return entry

    async def remove_schedule(self, name: str, *, is_remembered: bool = False) -> bool:
        return await self._run(partial(schedules.remove_schedule, name=name, is_remembered=is_remembered))

    async def schedules(self, *, now: datetime | None = None) -> ScheduleBook:
        return await self._run(partial(schedules.schedules, now=moment_text(now)))

    async def fire(self, firing: Firing, *, now: datetime | None = None) -> Fired | None:
        fired = await self._store.run(
            lambda store: self._run(partial(schedules.fire, firing=firing, store=store, now=moment_text(now)))
        )
        await self._hints.notify(hints.after_fire(firing.schedule, fired))
        return fired

    async def run_schedule(self, name: str, *, request_id: RequestId, now: datetime | None = None) -> RunNow | None:
        done = await self._store.run(
            lambda store: self._run(
                partial(schedules.run_schedule, name=name, request_id=request_id, store=store, now=moment_text(now))
            )
        )
        await self._hints.notify(hints.after_run(done))
        return done

    async def schedule_runs(self, name: str, *, limit: int = MAX_KEPT_RUNS) -> list[ScheduleRun]:
        return await self._run(partial(schedules.schedule_runs, name=name, limit=limit))

    # control

    async def cancel(self, target: JobFilter, *, reason: str, now: datetime | None = None) -> list[MovedJob]:
        moved = await self._run(partial(control.cancel, target=target, reason=reason, now=moment_text(now)))
        await self._hints.notify(hints.after_cancel(moved))
        return moved

    async def retry(self, target: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        retried = await self._run(partial(control.retry, target=target, now=moment_text(now)))
        await self._hints.notify(hints.after_retry(retried))
        return retried

    async def reschedule(
        self, job_id: JobId, *, due: datetime | timedelta | None, now: datetime | None = None
    ) -> Rescheduled | None:
        done = await self._run(partial(control.reschedule, job_id=job_id, due=due, now=moment_text(now)))
        await self._hints.notify(hints.after_reschedule(done))
        return done

    async def delete(self, target: JobFilter) -> list[JobId]:
        return await self._run(partial(control.delete, target=target))

    async def put_queue(self, settings: QueueSettings) -> None:
        await self._run(partial(control.put_queue, settings=settings))
        await self._hints.notify(hints.after_put_queue(settings))

    # reading

    async def get(self, job_id: JobId) -> Job | None:
        return await self._run(partial(reads.get, job_id=job_id))

    async def find(self, query: JobQuery) -> JobList:
        return await self._opened.run_at_one_moment(partial(listing.find, query=query))

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
        return await self._opened.run_at_one_moment(partial(reads.walk, after=after, limit=limit))

    async def diagnose(self, *, deep: bool = False) -> list[Finding]:
        self._database.connections.reopen()
        try:
            return await diagnosis.examine(self._database, deep=deep)
        finally:
            if not self._store.is_known:
                await self.close()

    # hints

    async def notify(self, notifications: Sequence[Notification]) -> None:
        await self._hints.notify(notifications)

    def listen(self) -> AsyncIterator[Notification]:
        return self._hints.listen()

    # the database

    @property
    def _opened(self) -> Database:
        """The database, of a store that is open."""
        _ = self._store.id
        return self._database

    async def _run(self, operation: Operation[T]) -> T:
        return await self._opened.run(operation)

    def _forget_claims(self) -> None:
        """Forget how far the jobs of the store before were claimed."""
        self._claim_floors.clear()
        self._pattern_claim_floors.clear()
