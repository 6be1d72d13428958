"""The producer: enqueues calls, and reports the new jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from deeper_tasks.backends.protocol import Announcing
from deeper_tasks.config import Settings
from deeper_tasks.domain.ids import JobId, RequestId
from deeper_tasks.domain.job import Insertion, NewJob
from deeper_tasks.errors import BackendUnavailableError, DeeperTasksError, DuplicateJobError, InvalidOptionError
from deeper_tasks.forks import process_watch
from deeper_tasks.integrations.events import EventBus, JobEnqueued
from deeper_tasks.manager.commits import CommitWatch
from deeper_tasks.manager.given_ids import GivenIds
from deeper_tasks.manager.jobs import AnyTask, Check, JobFactory
from deeper_tasks.manager.patience import insist
from deeper_tasks.manager.progress import Tally
from deeper_tasks.manager.store_access import StoreAccess
from deeper_tasks.manager.transactions import refuse_blocked_write
from deeper_tasks.tasks import JobRequest, ManagerIdentity, TaskCall, TaskId, joined_connection

T = TypeVar("T")

_NAME = "producer"
_COUNTED_AT_ONCE = 1_000
"""Jobs in one transaction, if the caller has `on_progress` called."""


class Producer:
    """Turns calls into jobs and inserts them."""

    def __init__(
        self,
        *,
        store: StoreAccess,
        settings: Settings,
        bus: EventBus,
        identity: ManagerIdentity,
        check: Check,
    ) -> None:
        self._store = store
        self._backend = store.backend
        self._availability = store.availability
        self.patience = timedelta(seconds=settings.enqueue_patience_seconds)
        self._closings = 0
        self._insisting: set[asyncio.Future[None]] = set()
        self._bus = bus
        self._identity = identity
        self.jobs = JobFactory(settings, check=check)
        self._commits = CommitWatch(store.backend)
        process_watch.add(self)

    def forget_parent(self) -> None:
        """In the child of a fork: another thread of the parent may have held the lock of the ids."""
        self.jobs.ids.renew_lock()
        self._insisting = set()

    async def close(self) -> None:
        """Report what was committed meanwhile, then stop watching and trying again. The store is still open."""
        self._closings += 1
        self._availability.end_pauses()
        # The loop may be stopped after this, and then blocking callers in it would wait forever.
        loop = asyncio.get_running_loop()
        if own := [each for each in tuple(self._insisting) if each.get_loop() is loop]:
            await asyncio.wait(own)
        await self._commits.close()

    def patience_of(self, request: JobRequest) -> timedelta:
        """Return how long an enqueue with these options is tried again while the store is away."""
        return self.patience if request.patience is None else request.patience

    async def enqueue(
        self,
        task: AnyTask,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        request: JobRequest,
        moment: datetime | timedelta | None = None,
    ) -> TaskId:
        """Enqueue one call."""
        job = self.jobs.job(self.jobs.spec(task, args, kwargs, request), request, moment)
        answers = await self._insert(
            [job],
            atomic=True,
            connection=request.connection,
            patience=self.patience_of(request),
            given=(request.task_id,),
        )
        return answers[0]

    def job(self, call: TaskCall) -> NewJob:
        """Return the job that a call would become; raises what its enqueue would."""
        spec = self.jobs.spec(call.task, call.args, call.kwargs, call.request)
        return self.jobs.job(spec, call.request, call.scheduled_at)

    async def enqueue_many(
        self,
        calls: Sequence[TaskCall],
        *,
        atomic: bool,
        connection: object | None = None,
        patience: timedelta | None = None,
        tally: Tally | None = None,
    ) -> list[TaskId]:
        """
        Enqueue calls, all checked before the first is sent; the tally counts those that the store has.

        Without `patience` that of the most patient call counts.
        """
        jobs: list[NewJob] = []
        given: set[RequestId] = set()
        longest = timedelta(0)
        ids = GivenIds(name="calls[{}]".format)
        for index, call in enumerate(calls):
            try:
                job = self.job(call)
                if call.request.task_id is not None:
                    ids.add(job.request_id, job.spec.task, job.spec.arguments, place=index)
                    given.add(job.request_id)
                jobs.append(job)
                longest = max(longest, self.patience_of(call.request))
            except DeeperTasksError as error:
                # Its class stays, for the caller to catch.
                error.args = (f"calls[{index}]: {error}",)
                raise
        insert = partial(
            self._insert,
            atomic=atomic,
            connection=connection,
            patience=longest if patience is None else patience,
            given=given,
        )
        try:
            if tally is None:
                return await insert(jobs)
            return await self._insert_counted(
                jobs, size=len(jobs) if atomic else _COUNTED_AT_ONCE, insert=insert, tally=tally
            )
        except DuplicateJobError as error:
            place = next((index for index, job in enumerate(jobs) if job.request_id == error.request_id), None)
            if place is not None:
                others = "" if atomic else "; calls of other batches may be stored, as atomic=False says"
                error.args = (f"calls[{place}]: {error}{others}",)
            raise

    async def _insert_counted(
        self, jobs: list[NewJob], *, size: int, insert: Callable[[list[NewJob]], Awaitable[list[TaskId]]], tally: Tally
    ) -> list[TaskId]:
        answers: list[TaskId] = []
        try:
            for start in range(0, len(jobs), size):
                batch = jobs[start : start + size]
                answers += await insert(batch)
                tally.add(len(batch))
        except BackendUnavailableError as error:
            # As without a tally: the ids of all jobs, also of those that are stored already.
            if self._backend.capabilities.can_repeat_insert:
                error.request_ids = tuple(job.request_id for job in jobs)
            raise
        return answers

    async def _insert(
        self,
        jobs: list[NewJob],
        *,
        atomic: bool,
        connection: object | None,
        patience: timedelta,
        given: Collection[RequestId | None],
    ) -> list[TaskId]:
        """Insert jobs and report them; `given` are the ids that the caller chose, and may have sent before."""
        if connection is None:
            # In a transactional task of this manager all that it enqueues is a part of its transaction.
            connection = joined_connection(self._identity)
            if connection is None:
                refuse_blocked_write(self._backend)
        if patience and connection is None and self._backend.capabilities.can_repeat_insert:
            answers = await self._insert_patiently(jobs, atomic=atomic, patience=patience, given=given)
        else:
            answers = await self._insert_once(jobs, atomic=atomic, connection=connection)
            if self._availability.is_away:
                self._availability.mark_working(by=_NAME)
        if connection is None or not self._backend.capabilities.has_transactions:
            await self._tell(jobs, answers)
        else:
            # Nothing is there yet, and perhaps never will be.
            self._tell_at_commit(jobs, answers)
        return [TaskId(answer.id, is_new=answer.is_new) for answer in answers]

    async def _insert_once(self, jobs: Sequence[NewJob], *, atomic: bool, connection: object | None) -> list[Insertion]:
        try:
            return await self._backend.insert(jobs, atomic=atomic, connection=connection)
        except BackendUnavailableError as error:
            if self._backend.capabilities.can_repeat_insert:
                raise
            # No request that a caller could send again: each would make one more job.
            raise BackendUnavailableError(
                f"{error}; the jobs may be stored all the same, and the store cannot tell a repeated enqueue from a "
                "new one: look for the jobs before you enqueue them again"
            ) from error

    async def _insert_patiently(
        self, jobs: Sequence[NewJob], *, atomic: bool, patience: timedelta, given: Collection[RequestId | None]
    ) -> list[Insertion]:
        async def insert() -> list[Insertion]:
            await self._store.ready()
            return await self._backend.insert(jobs, atomic=atomic)

        answers = await self.insist(insert, patience=patience)
        # A request that was made here is new, also where the answer was lost and a later try found its job.
        # A store that makes its own ids does not say whether it found the request or the holder of the unique key.
        makes_ids = self._backend.capabilities.makes_ids
        return [
            answer
            if answer.is_new
            or job.request_id in given
            or (job.unique is not None if makes_ids else answer.id != job.request_id)
            else replace(answer, is_new=True)
            for job, answer in zip(jobs, answers, strict=True)
        ]

    async def insist(self, call: Callable[[], Awaitable[T]], *, patience: timedelta) -> T:
        """Return what `call` answers, tried again for this time while the store is away, or until `close`."""
        closings, ended = self._closings, asyncio.get_running_loop().create_future()
        self._insisting.add(ended)
        try:
            return await insist(
                call,
                seconds=patience.total_seconds(),
                availability=self._availability,
                is_wanted=lambda: self._closings == closings,
            )
        finally:
            self._insisting.discard(ended)
            ended.set_result(None)

    def _tell_at_commit(self, jobs: Sequence[NewJob], answers: Sequence[Insertion]) -> None:
        if isinstance(self._backend, Announcing) or self._bus.wants(JobEnqueued):
            self._commits.expect(_first_of(answers), partial(self._tell_committed, jobs, answers))

    async def _tell_committed(self, jobs: Sequence[NewJob], answers: Sequence[Insertion]) -> None:
        if isinstance(self._backend, Announcing):
            await self._backend.announce([job for job, answer in zip(jobs, answers, strict=True) if answer.is_new])
        await self._tell(jobs, answers)

    async def _tell(self, jobs: Sequence[NewJob], answers: Sequence[Insertion]) -> None:
        if self._bus.wants(JobEnqueued):
            for job, answer in zip(jobs, answers, strict=True):
                self._bus.emit(
                    JobEnqueued(
                        job_id=answer.id,
                        task=job.spec.task,
                        queue=job.spec.queue,
                        is_new=answer.is_new,
                        scheduled_at=job.due,
                        delay=job.delay,
                    )
                )


def common_connection(calls: Sequence[TaskCall], *, given: object | None = None) -> Any:
    """
    Return the one connection that calls are to be enqueued through: that of each, or the one given.

    Raises:
        InvalidOptionError: there are several.
    """
    carried = [given if call.request.connection is None else call.request.connection for call in calls]
    if any(connection is not carried[0] for connection in carried):
        raise InvalidOptionError(
            "option 'connection' differs between the calls: enqueue those of each transaction by themselves"
        )
    return carried[0] if carried else given


def _first_of(answers: Sequence[Insertion]) -> JobId:
    """The first new job, or else the first: with it, all others are there."""
    return next((answer.id for answer in answers if answer.is_new), answers[0].id)
