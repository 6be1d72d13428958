"""The SQLite backend: each method of the protocol is one operation on one of two threads."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from deeper_tasks.backends import hints
from deeper_tasks.backends.migrations import Migration
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
from deeper_tasks.backends.sqlite import (
    claiming,
    consuming,
    control,
    diagnosis,
    free_pages,
    insert,
    listing,
    maintenance,
    pruning,
    reads,
    schedules,
    schema,
)
from deeper_tasks.backends.sqlite.codec import micros
from deeper_tasks.backends.sqlite.companion_files import can_write
from deeper_tasks.backends.sqlite.database import Database, Synchronous, translate
from deeper_tasks.backends.sqlite.forks import fork_lock, watch_forks
from deeper_tasks.backends.sqlite.hints import Hints
from deeper_tasks.backends.sqlite.job_transaction import SQLiteJobTransaction
from deeper_tasks.backends.sqlite.threads import Operation, Reader, Writer
from deeper_tasks.backends.sqlite.transaction import run_inside
from deeper_tasks.backends.sqlite.transactor import Transactor
from deeper_tasks.config.working_folder import absolute
from deeper_tasks.domain.finding import Finding
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import Insertion, Job, NewJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun
from deeper_tasks.domain.settlement import MovedJob, Report, Settled, Settlement
from deeper_tasks.errors import BackendUnavailableError, UnsupportedError
from deeper_tasks.forks import process_watch
from deeper_tasks.run_in_thread import run_in_thread

T = TypeVar("T")

_MOST_STEPS_BACK = 64
"""Steps in which one `prune` gives space back: 64 MiB, with the other writers' turns in between."""


class SQLiteBackend:
    """
    A store in one SQLite file, for any number of processes of one machine.

    Writes of a process are gathered by its one writing thread and committed
    together; processes take turns. A fork is noticed: the child opens its own.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        synchronous: Synchronous = Synchronous.FULL,
        timeout: float = 10.0,
        has_foreign_keys: bool = False,
    ) -> None:
        self._database = Database(
            path=absolute(Path(path)), synchronous=synchronous, timeout=timeout, has_foreign_keys=has_foreign_keys
        )
        self.capabilities = Capabilities(
            is_durable=True,
            is_shared=True,
            has_transactions=True,
            has_job_transactions=True,
            # Whoever waits for it must not have given up before it ends.
            longest_job_transaction=timedelta(seconds=timeout / 2),
        )
        self._hints = Hints(self._database.real)
        self._transactor: Transactor | None = None
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._lister: Reader | None = None
        self._is_ready = False
        self._has_made_inside = False
        self._is_to_be_shortened = False
        self._is_open = False
        # Now, not with the first thread: who makes a store seldom forks at the same moment.
        watch_forks()
        process_watch.add(self)

    # life

    async def open(self, *, create: bool = True, will_join: bool = False) -> bool:
        process_watch.notice()
        if not create and not self._database.is_there():
            self._database.check_folder()
            raise BackendUnavailableError(f"there is no database {self.location!r}; an enqueue makes it")
        self._start_once()
        if self._is_ready or will_join:
            return False
        # Of several first users each asks, so that none reads before the schema is there.
        try:
            is_new = not await self._looks_ready(is_to_write=create) and await self._write(
                partial(schema.make_ready, create=create)
            )
        except BaseException:
            await self.close()
            raise
        self._is_ready = True
        return is_new

    @property
    def location(self) -> str:
        """The absolute path of the file."""
        return str(self._database.path)

    async def _looks_ready(self, *, is_to_write: bool) -> bool:
        """
        Whether there is nothing to prepare, as far as a look can tell.

        A caller with an open transaction blocks every writer, so a check that writes would block too.

        Raises:
            SchemaError: what is there is older than this code, or newer.
            BackendUnavailableError: this user may only reads, and cannot.
        """
        may_write = can_write(self._database.real)
        if is_to_write and not may_write:
            return False
        try:
            return await self._read(schema.is_ready)
        except BackendUnavailableError:
            if not may_write:
                raise
            return False

    async def close(self) -> None:
        process_watch.notice()
        self._hints.close()
        self._is_open = self._is_ready = False
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        lister, self._lister = self._lister, None
        transactor, self._transactor = self._transactor, None
        for thread in (transactor, lister, reader, writer):
            if thread is not None:
                await run_in_thread(thread.close)

    async def migrate(self) -> tuple[str, ...]:
        process_watch.notice()
        if self._is_open:
            return await self._write(schema.migrate)
        self._start_once()
        try:
            return await self._write(schema.migrate)
        finally:
            await self.close()

    async def migration_script(self, *, is_whole: bool = False) -> str:
        if is_whole or self._database.identify() is None:
            return schema.script(schema.known_migrations())
        return schema.script(await asyncio.to_thread(self._missing))

    def _missing(self) -> list[Migration]:
        try:
            with closing(self._database.connect_to_read()) as connection:
                return schema.missing(connection)
        except sqlite3.Error as error:
            raise translate(error, self._database) from error

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
                return self._insert_inside(connection, batches, now=_clock(now))
            for batch in batches:
                answers += await self._write(partial(insert.insert, jobs=batch, now=_clock(now)))
        except BackendUnavailableError as error:
            error.job_ids = tuple(job.id for job in jobs)
            raise
        new = (job for job, answer in zip(jobs, answers, strict=True) if answer.is_new)
        self._hints.notify(hints.hints_of(new))
        return answers

    def _insert_inside(self, connection: object, batches: list[Sequence[NewJob]], *, now: int) -> list[Insertion]:
        self._open_thread(lambda: self._writer)

        def insert_all(cursor: sqlite3.Cursor) -> list[Insertion]:
            if not self._is_ready:
                self._make_ready_inside(cursor)
            return [answer for batch in batches for answer in insert.insert(cursor, batch, now=now)]

        return run_inside(connection, insert_all, database=self._database)

    def _make_ready_inside(self, cursor: sqlite3.Cursor) -> None:
        """Make the schema in the caller's transaction: the writing thread would wait for the end of that."""
        self._has_made_inside |= schema.make_ready(cursor, create=True)
        # A table that a caller's transaction has made here may be rolled back with it.
        self._is_ready = not self._has_made_inside

    # consume

    async def register(self, node: Node, *, tasks: frozenset[str] | None = None, now: datetime | None = None) -> None:
        await self._write(partial(consuming.register, node=node, tasks=tasks, now=_clock(now)))

    async def deregister(self, node: NodeId) -> None:
        await self._write(partial(consuming.deregister, node=node))

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
        claim = partial(
            claiming.claim,
            queue=queue,
            limit=limit,
            slots=slots,
            node=node,
            token=token,
            after=after,
            quarantined=quarantined,
            now=_clock(now),
        )
        # A power cut that takes a claim takes the worker too, and the job is pending as it was: no disk is waited for.
        return await self._write(claim, is_durable=False)

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        return await self._write(partial(consuming.settle, settlements=settlements, now=_clock(now)))

    async def report(self, reports: Sequence[Report], *, now: datetime | None = None) -> list[JobId]:
        return await self._write(partial(consuming.report, reports=reports, now=_clock(now)))

    async def beat(self, node: NodeId, *, busy: int = 0, now: datetime | None = None) -> Beat:
        return await self._write(partial(consuming.beat, node=node, busy=busy, now=_clock(now)))

    async def begin(
        self, *, is_async: bool, limit: timedelta | None = None, now: datetime | None = None
    ) -> SQLiteJobTransaction:
        self._open_thread(lambda: self._writer)
        with fork_lock:
            if self._transactor is None:
                self._transactor = Transactor(self._database, name=f"deeper-jobs-{self._database.path.name}")
                self._transactor.start()
            transactor = self._transactor
        longest = self.capabilities.longest_job_transaction
        assert longest is not None
        seconds = (longest if limit is None else min(limit, longest)).total_seconds()
        return await transactor.begin(is_async=is_async, limit=seconds, now=partial(_clock, now))

    # maintain

    async def promote(self, *, now: datetime | None = None) -> Promotion:
        promotion = await self._write(partial(maintenance.promote, now=_clock(now)))
        self._hints.notify(hints.jobs_in(promotion.queues))
        return promotion

    async def rescue(
        self, node: NodeId, *, beat: int, trusted: Collection[str] = (), now: datetime | None = None
    ) -> Rescue:
        rescue = partial(maintenance.rescue, node=node, beat=beat, trusted=trusted, now=_clock(now))
        rescued = await self._write(rescue)
        self._hints.notify(hints.jobs_in(rescued.queues))
        return rescued

    async def expire(self, *, now: datetime | None = None) -> list[MovedJob]:
        return await self._write(partial(maintenance.expire, now=_clock(now)))

    async def prune(self, retention: Retention, *, now: datetime | None = None) -> int:
        moment = _clock(now)
        pruned = await self._write(partial(pruning.prune, retention=retention, now=moment))
        has_more_keys = pruned.has_more_keys
        while has_more_keys:
            has_more_keys = await self._write(partial(pruning.prune_keys, now=moment))
        await self._give_back()
        if isinstance(pruned.failure, sqlite3.Error):
            raise translate(pruned.failure, self._database) from pruned.failure
        if pruned.failure is not None:
            raise pruned.failure
        return pruned.jobs

    async def compact(self) -> int:
        return await self._write(free_pages.compact, is_alone=True)

    # schedules

    async def put_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> ScheduleEntry:
        entry = await self._write(partial(schedules.put_schedule, schedule=schedule, now=_clock(now)))
        self._hints.notify(hints.after_new_next_run())
        return entry

    async def pause_schedule(self, name: str, *, is_paused: bool, now: datetime | None = None) -> ScheduleEntry | None:
        pause = partial(schedules.pause_schedule, name=name, is_paused=is_paused, now=_clock(now))
        entry = await self._write(pause)
        if entry is not None and not is_paused:
            self._hints.notify(hints.after_new_next_run())
        return entry

    async def remove_schedule(self, name: str, *, is_remembered: bool = False) -> bool:
        return await self._write(partial(schedules.remove_schedule, name=name, is_remembered=is_remembered))

    async def schedules(self, *, now: datetime | None = None) -> ScheduleBook:
        return await self._read(partial(schedules.schedules, now=_clock(now)))

    async def fire(self, firing: Firing, *, now: datetime | None = None) -> Fired | None:
        fired = await self._write(partial(schedules.fire, firing=firing, now=_clock(now)))
        self._hints.notify(hints.after_fire(firing.schedule, fired))
        return fired

    async def run_schedule(self, name: str, *, job_id: JobId, now: datetime | None = None) -> RunNow | None:
        done = await self._write(partial(schedules.run_schedule, name=name, job_id=job_id, now=_clock(now)))
        self._hints.notify(hints.after_run(done))
        return done

    async def schedule_runs(self, name: str, *, limit: int = MAX_KEPT_RUNS) -> list[ScheduleRun]:
        return await self._read(partial(schedules.schedule_runs, name=name, limit=limit))

    # control

    async def cancel(self, target: JobFilter, *, reason: str, now: datetime | None = None) -> list[MovedJob]:
        moved = await self._write(partial(control.cancel, target=target, reason=reason, now=_clock(now)))
        self._hints.notify(hints.after_cancel(moved))
        return moved

    async def retry(self, target: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        retried = await self._write(partial(control.retry, target=target, now=_clock(now)))
        self._hints.notify(hints.after_retry(retried))
        return retried

    async def reschedule(
        self, job_id: JobId, *, due: datetime | timedelta | None, now: datetime | None = None
    ) -> Rescheduled | None:
        rescheduled = await self._write(partial(control.reschedule, job_id=job_id, due=due, now=_clock(now)))
        self._hints.notify(hints.after_reschedule(rescheduled))
        return rescheduled

    async def delete(self, target: JobFilter) -> list[JobId]:
        return await self._write(partial(control.delete, target=target, now=_clock(None)))

    async def put_queue(self, settings: QueueSettings) -> None:
        await self._write(partial(control.put_queue, settings=settings))
        self._hints.notify(hints.after_put_queue(settings))

    # look

    async def get(self, job_id: JobId) -> Job | None:
        return await self._read(partial(reads.get, job_id=job_id))

    async def find(self, query: JobQuery) -> JobList:
        return await self._list(partial(listing.find, query=query))

    async def find_ids(self, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
        return await self._read(partial(reads.find_ids, beginnings=beginnings, limit=limit))

    async def statistics(self, *, now: datetime | None = None) -> Counts:
        return await self._read(partial(reads.statistics, now=_clock(now)))

    async def service(self, queue: str, *, task: str, now: datetime | None = None) -> Service:
        return await self._read(partial(reads.service, queue=queue, task=task, now=_clock(now)))

    async def nodes(self) -> list[NodeRecord]:
        return await self._read(reads.nodes)

    async def queues(self) -> list[QueueSettings]:
        return await self._read(reads.queues)

    # diagnosis

    async def walk(self, *, after: JobId | None, limit: int) -> list[Job]:
        return await self._list(partial(reads.walk, after=after, limit=limit))

    async def diagnose(self, *, deep: bool = False) -> list[Finding]:
        stop = asyncio.Event()
        try:
            return await asyncio.to_thread(diagnosis.examine, self._database, deep=deep, is_stopped=stop.is_set)
        finally:
            stop.set()

    # wake

    async def notify(self, notifications: Sequence[Notification]) -> None:
        self._hints.notify(notifications)

    def listen(self) -> AsyncIterator[Notification]:
        return self._hints.listen()

    # threads

    def _start_once(self) -> None:
        with fork_lock:
            if self._lister is None:
                self._start()
                self._is_open = True

    def _start(self) -> None:
        fork_lock.check(self._database.real)
        name = self._database.path.name
        # Lists have a thread of their own: a search through millions must not hold up who asks for one job.
        writer = Writer(self._database, name=f"deeper-write-{name}")
        reader = Reader(self._database, name=f"deeper-read-{name}")
        lister = Reader(self._database, name=f"deeper-list-{name}")
        for each in (writer, reader, lister):
            each.start()
        # Not before they run: another thread of a child asks for them without the lock.
        self._writer, self._reader, self._lister = writer, reader, lister

    async def _write(self, operation: Operation[T], *, is_alone: bool = False, is_durable: bool = True) -> T:
        writer = self._open_thread(lambda: self._writer)
        return await writer.run(operation, is_alone=is_alone, is_durable=is_durable)

    async def _read(self, operation: Operation[T]) -> T:
        return await self._open_thread(lambda: self._reader).run(operation)

    async def _give_back(self) -> None:
        for _ in range(_MOST_STEPS_BACK):
            if not await self._write(free_pages.give_back, is_alone=True):
                break
            self._is_to_be_shortened = True
        if self._is_to_be_shortened:
            # Behind one who reads just now it waits for the next time.
            self._is_to_be_shortened = not await self._write(free_pages.shorten, is_alone=True)

    async def _list(self, operation: Operation[T]) -> T:
        return await self._open_thread(lambda: self._lister).run(operation)

    def _open_thread(self, thread: Callable[[], Writer | Reader | None]) -> Writer | Reader:
        process_watch.notice()
        chosen = thread()
        if chosen is None and self._is_open:
            # The parent's threads are not here.
            self._start_once()
            chosen = thread()
        if chosen is None:
            raise BackendUnavailableError("the store is not open; use 'async with manager:' or 'await manager.open()'")
        return chosen

    def forget_parent(self) -> None:
        """In the child of a fork: go on with threads of its own, from the next operation on."""
        self._writer = self._reader = self._lister = self._transactor = None
        self._hints = Hints(self._database.real)


def _clock(now: datetime | None) -> int:
    """The store's time in microseconds: this machine's clock, for all its processes."""
    return time.time_ns() // 1000 if now is None else micros(now)
