"""The SQLite backend: each method of the protocol runs one operation on a thread of the store."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from deeper_tasks.backends import hints
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
)
from deeper_tasks.backends.sqlite.caller_transaction import run_inside
from deeper_tasks.backends.sqlite.codec import micros, moment
from deeper_tasks.backends.sqlite.database import Database, Synchronous
from deeper_tasks.backends.sqlite.driver_errors import translate
from deeper_tasks.backends.sqlite.hints import Hints
from deeper_tasks.backends.sqlite.job_transaction import SQLiteJobTransaction
from deeper_tasks.backends.sqlite.readiness import Readiness
from deeper_tasks.backends.sqlite.store_threads import StoreThreads
from deeper_tasks.config.working_folder import absolute
from deeper_tasks.domain.finding import Finding
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId, RequestId
from deeper_tasks.domain.job import Insertion, Job, NewJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun
from deeper_tasks.domain.settlement import MovedJob, Report, Settled, Settlement
from deeper_tasks.errors import BackendUnavailableError, UnsupportedError
from deeper_tasks.forks import process_watch

T = TypeVar("T")

_MOST_STEPS_BACK = 64
"""Steps in which one `prune` gives space back: 64 MiB, with the other writers' turns in between."""


class SQLiteBackend:
    """
    A store in one SQLite file, for any number of processes of one machine.

    The one writing thread of a process commits together the writes that have gathered; processes take turns. The
    child of a fork opens the file anew.
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
            # A writer that waits for it must not have given up before it ends.
            longest_job_transaction=timedelta(seconds=timeout / 2),
        )
        self._hints = Hints(self._database.real)
        self._threads = StoreThreads(self._database)
        self._readiness = Readiness(self._database, self._threads)
        self._is_to_be_shortened = False
        process_watch.add(self)

    # lifecycle

    async def open(self, *, create: bool = True, will_join: bool = False) -> bool:
        process_watch.notice()
        return await self._readiness.open(create=create, will_join=will_join)

    async def close(self) -> None:
        process_watch.notice()
        self._hints.close()
        await self._readiness.close()

    async def migrate(self) -> tuple[str, ...]:
        process_watch.notice()
        return await self._readiness.migrate()

    async def migration_script(self, *, is_whole: bool = False) -> str:
        return await self._readiness.migration_script(is_whole=is_whole)

    @property
    def location(self) -> str:
        """The absolute path of the file."""
        return str(self._database.path)

    # jobs

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
        clock = _clock(now)
        answers: list[Insertion] = []
        try:
            if connection is not None:
                return self._insert_inside(connection, batches, now=clock)
            for batch in batches:
                answers += await self._threads.write(partial(insert.insert, jobs=batch, now=clock))
        except BackendUnavailableError as error:
            error.request_ids = tuple(job.request_id for job in jobs)
            raise
        new = (job for job, answer in zip(jobs, answers, strict=True) if answer.is_new)
        self._hints.notify(hints.after_insert(new, now=moment(clock)))
        return answers

    def _insert_inside(self, connection: object, batches: list[Sequence[NewJob]], *, now: int) -> list[Insertion]:
        self._threads.check_open()

        def insert_all(cursor: sqlite3.Cursor) -> list[Insertion]:
            self._readiness.ensure_inside(cursor)
            return [answer for batch in batches for answer in insert.insert(cursor, batch, now=now)]

        return run_inside(connection, insert_all, database=self._database)

    # consuming, with progress and the transactions of jobs

    async def register(self, node: Node, *, tasks: frozenset[str] | None = None, now: datetime | None = None) -> None:
        await self._threads.write(partial(consuming.register, node=node, tasks=tasks, now=_clock(now)))

    async def deregister(self, node: NodeId) -> None:
        await self._threads.write(partial(consuming.deregister, node=node))

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
        return await self._threads.write(claim, is_durable=False)

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        settling = await self._threads.write(partial(consuming.settle, settlements=settlements, now=_clock(now)))
        if settling.hints:
            self._hints.notify(settling.hints)
        return settling.settled

    async def report(self, reports: Sequence[Report], *, now: datetime | None = None) -> list[JobId]:
        return await self._threads.write(partial(consuming.report, reports=reports, now=_clock(now)))

    async def beat(self, node: NodeId, *, busy: int = 0, now: datetime | None = None) -> Beat:
        return await self._threads.write(partial(consuming.beat, node=node, busy=busy, now=_clock(now)))

    async def begin(
        self, *, is_async: bool, limit: timedelta | None = None, now: datetime | None = None
    ) -> SQLiteJobTransaction:
        longest = self.capabilities.longest_job_transaction
        assert longest is not None
        seconds = (longest if limit is None else min(limit, longest)).total_seconds()
        return await self._threads.transactor().begin(is_async=is_async, limit=seconds, now=partial(_clock, now))

    # maintenance

    async def promote(self, *, now: datetime | None = None) -> Promotion:
        promotion = await self._threads.write(partial(maintenance.promote, now=_clock(now)))
        self._hints.notify(hints.new_pending(promotion.queues))
        return promotion

    async def rescue(
        self, node: NodeId, *, beat: int, trusted: Collection[str] = (), now: datetime | None = None
    ) -> Rescue:
        rescue = partial(maintenance.rescue, node=node, beat=beat, trusted=trusted, now=_clock(now))
        rescued = await self._threads.write(rescue)
        self._hints.notify(hints.new_pending(rescued.queues))
        return rescued

    async def expire(self, *, now: datetime | None = None) -> list[MovedJob]:
        return await self._threads.write(partial(maintenance.expire, now=_clock(now)))

    async def prune(self, retention: Retention, *, now: datetime | None = None) -> int:
        moment = _clock(now)
        pruned = await self._threads.write(partial(pruning.prune, retention=retention, now=moment))
        has_more_keys = pruned.has_more_keys
        while has_more_keys:
            has_more_keys = await self._threads.write(partial(pruning.prune_keys, now=moment))
        await self._give_back()
        if isinstance(pruned.failure, sqlite3.Error):
            raise translate(pruned.failure, self._database) from pruned.failure
        if pruned.failure is not None:
            raise pruned.failure
        return pruned.jobs

    async def _give_back(self) -> None:
        for _ in range(_MOST_STEPS_BACK):
            if not await self._threads.write(free_pages.give_back, in_transaction=False):
                break
            self._is_to_be_shortened = True
        if self._is_to_be_shortened:
            # A reader that still needs the log makes this wait for the next time.
            self._is_to_be_shortened = not await self._threads.write(free_pages.shorten, in_transaction=False)

    async def compact(self) -> int:
        return await self._threads.write(free_pages.compact, in_transaction=False)

    # schedules

    async def put_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> ScheduleEntry:
        entry = await self._threads.write(partial(schedules.put_schedule, schedule=schedule, now=_clock(now)))
        self._hints.notify(hints.after_new_next_run())
        return entry

    async def pause_schedule(self, name: str, *, is_paused: bool, now: datetime | None = None) -> ScheduleEntry | None:
        pause = partial(schedules.pause_schedule, name=name, is_paused=is_paused, now=_clock(now))
        entry = await self._threads.write(pause)
        if entry is not None and not is_paused:
            self._hints.notify(hints.after_new_next_run())
        return entry

    async def remove_schedule(self, name: str, *, is_remembered: bool = False) -> bool:
        return await self._threads.write(partial(schedules.remove_schedule, name=name, is_remembered=is_remembered))

    async def schedules(self, *, now: datetime | None = None) -> ScheduleBook:
        return await self._threads.read(partial(schedules.schedules, now=_clock(now)))

    async def fire(self, firing: Firing, *, now: datetime | None = None) -> Fired | None:
        fired = await self._threads.write(partial(schedules.fire, firing=firing, now=_clock(now)))
        self._hints.notify(hints.after_fire(firing.schedule, fired))
        return fired

    async def run_schedule(self, name: str, *, request_id: RequestId, now: datetime | None = None) -> RunNow | None:
        done = await self._threads.write(
            partial(schedules.run_schedule, name=name, request_id=request_id, now=_clock(now))
        )
        self._hints.notify(hints.after_run(done))
        return done

    async def schedule_runs(self, name: str, *, limit: int = MAX_KEPT_RUNS) -> list[ScheduleRun]:
        return await self._threads.read(partial(schedules.schedule_runs, name=name, limit=limit))

    # control

    async def cancel(self, target: JobFilter, *, reason: str, now: datetime | None = None) -> list[MovedJob]:
        moved = await self._threads.write(partial(control.cancel, target=target, reason=reason, now=_clock(now)))
        self._hints.notify(hints.after_cancel(moved))
        return moved

    async def retry(self, target: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        retried = await self._threads.write(partial(control.retry, target=target, now=_clock(now)))
        self._hints.notify(hints.after_retry(retried))
        return retried

    async def reschedule(
        self, job_id: JobId, *, due: datetime | timedelta | None, now: datetime | None = None
    ) -> Rescheduled | None:
        rescheduled = await self._threads.write(partial(control.reschedule, job_id=job_id, due=due, now=_clock(now)))
        self._hints.notify(hints.after_reschedule(rescheduled))
        return rescheduled

    async def delete(self, target: JobFilter) -> list[JobId]:
        return await self._threads.write(partial(control.delete, target=target, now=_clock(None)))

    async def put_queue(self, settings: QueueSettings) -> None:
        await self._threads.write(partial(control.put_queue, settings=settings))
        self._hints.notify(hints.after_put_queue(settings))

    # reads

    async def get(self, job_id: JobId) -> Job | None:
        return await self._threads.read(partial(reads.get, job_id=job_id))

    async def find(self, query: JobQuery) -> JobList:
        return await self._threads.list(partial(listing.find, query=query))

    async def find_ids(self, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
        return await self._threads.read(partial(reads.find_ids, beginnings=beginnings, limit=limit))

    async def statistics(self, *, now: datetime | None = None) -> Counts:
        return await self._threads.read(partial(reads.statistics, now=_clock(now)))

    async def service(self, queue: str, *, task: str, now: datetime | None = None) -> Service:
        return await self._threads.read(partial(reads.service, queue=queue, task=task, now=_clock(now)))

    async def nodes(self) -> list[NodeRecord]:
        return await self._threads.read(reads.nodes)

    async def queues(self) -> list[QueueSettings]:
        return await self._threads.read(reads.queues)

    # diagnosis

    async def walk(self, *, after: JobId | None, limit: int) -> list[Job]:
        return await self._threads.list(partial(reads.walk, after=after, limit=limit))

    async def diagnose(self, *, deep: bool = False) -> list[Finding]:
        stop = asyncio.Event()
        try:
            return await asyncio.to_thread(diagnosis.examine, self._database, deep=deep, is_stopped=stop.is_set)
        finally:
            stop.set()

    # hints

    async def notify(self, notifications: Sequence[Notification]) -> None:
        self._hints.notify(notifications)

    async def announce(self, jobs: Sequence[NewJob]) -> None:
        self._hints.notify(hints.after_insert_elsewhere(jobs, now=moment(_clock(None))))

    def listen(self) -> AsyncIterator[Notification]:
        return self._hints.listen()

    def forget_parent(self) -> None:
        """In the child of a fork: send and hear hints through sockets of its own."""
        self._hints = Hints(self._database.real)


def _clock(now: datetime | None) -> int:
    """The store's time in microseconds: this machine's clock, for all its processes."""
    return time.time_ns() // 1000 if now is None else micros(now)
