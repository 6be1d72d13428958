"""The facade: all that an application asks of its store, async."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType, TracebackType
from typing import Any, ParamSpec, Self, TypeVar, Unpack

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import Backend, JobQuery, Located, Retention, Scripting
from deeper_tasks.config import Settings, redacted
from deeper_tasks.domain.damage import described
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, OnCheck, say_nothing
from deeper_tasks.domain.ids import JobId, parse_id
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import DEAD_LETTER, State
from deeper_tasks.errors import (
    AccessError,
    BackendUnavailableError,
    DamagedError,
    InvalidOptionError,
    JobNotCompletedError,
    JobNotFoundError,
    TaskError,
    UnsupportedError,
)
from deeper_tasks.forks import process_watch
from deeper_tasks.integrations.events import EventBus, StoreMade
from deeper_tasks.manager.conditions import Conditions, check_page, to_days, to_filter, to_sort_key
from deeper_tasks.manager.control import JobControl
from deeper_tasks.manager.input_checks import (
    check_progress,
    check_runs,
    check_text,
    no_function,
    no_task,
    to_calls,
    to_queues,
)
from deeper_tasks.manager.jobs import AnyTask
from deeper_tasks.manager.overview import Overview, to_overview
from deeper_tasks.manager.producer import Producer, common_connection
from deeper_tasks.manager.progress import OnProgress, Tally
from deeper_tasks.manager.recurring import RecurringTasks
from deeper_tasks.manager.short_ids import check_id, expand, shorten
from deeper_tasks.manager.stores import begins_elsewhere, make_backend, shown_store
from deeper_tasks.manager.transactions import refuse_blocked_write, terms_of
from deeper_tasks.manager.views import (
    CancelOutcome,
    Page,
    RecurringRun,
    RecurringTask,
    Statistics,
    TaskStatus,
    read_cursor,
    to_page,
    to_recurring_run,
    to_recurring_task,
    to_statistics,
    to_status,
)
from deeper_tasks.manager.waiting import may_wait, waiting_for
from deeper_tasks.manager.worker_settings import retention_of
from deeper_tasks.tasks import (
    BlockingEnqueuer,
    EnqueueOptions,
    JobRequest,
    ManagerHabits,
    ManagerIdentity,
    Seconds,
    Task,
    TaskCall,
    TaskId,
    TaskRegistry,
    check_patience,
    parse_moment,
    parse_options,
    parse_patience,
)

P = ParamSpec("P")
R = TypeVar("R")
WorkerName = ModuleType | type | str | Task[..., Any]
"""Where a task's function lives: its module or class, a dotted name of one, or the task itself."""

_NAME = "manager"
_FIRST_LOOK, _LONGEST_LOOK = 0.002, 0.25
_PATIENCE = 1.0
"""Seconds for which a wait that was too long already asks what the job waits for."""


class Facade(ManagerHabits, ABC):
    """
    Enqueue, watch and control work in one store.

    The store is opened at the first use, or by `async with`, which also closes it.
    """

    def __init__(self, *, settings: Settings, backend: Backend | None = None) -> None:
        self.settings = settings
        self.events = EventBus()
        self.identity = ManagerIdentity()
        """By it the jobs that its workers run know this manager."""
        self.registry = TaskRegistry(allowed_modules=settings.allowed_modules, admit=self._admit)
        self._is_open = self._is_joined = self._has_made_store = self._is_worker = False
        self._work_on(backend)

    @property
    @abstractmethod
    def sync(self) -> BlockingEnqueuer:
        """Its blocking form."""

    @property
    def shown_store(self) -> str:
        """The store as it may be shown: its URL without secrets, and the absolute path of its file, if it has one."""
        return shown_store(self.settings.url, self.backend)

    # life

    async def open(self, *, create: bool = True) -> None:
        """
        Open the store; a second call does nothing. One that is not there is made, unless `create` is False.

        While it is away the opening is tried again for the setting `enqueue_patience_seconds`, as an enqueue is; with
        `create=False`, by which nothing is enqueued, it fails at once.

        Raises:
            BackendUnavailableError: it cannot be reached, or is not there.
            SchemaError: it is not one of ours, needs `migrate`, or is newer than this code.
        """
        process_watch.notice()
        patience = self._producer.patience
        if create and patience and not self._is_open:
            await self._producer.insist(self._open, patience=patience)
        else:
            await self._open(create=create)

    async def _open(self, *, create: bool = True) -> None:
        is_new = await self.backend.open(create=create)
        self._is_open = True
        if is_new:
            self._note_new_store()

    async def close(self) -> None:
        """Close the store, after what is under way. The next use opens it again."""
        process_watch.notice()
        self._is_open = self._is_joined = False
        await self._producer.close()
        await self.backend.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def migrate(self) -> tuple[str, ...]:
        """
        Bring the store's schema up to date; returns the migrations applied, in order: none if it was.

        Raises:
            BackendUnavailableError: the store cannot be reached; all is as it was.
            SchemaError: it is not one of ours, or newer than this code.
        """
        refuse_blocked_write(self.backend)
        return await self.backend.migrate()

    async def migration_script(self, *, is_whole: bool = False) -> str:
        """
        Return the statements that `migrate` would run, for a review, or for an administrator to run.

        They are one transaction, for `psql -v ON_ERROR_STOP=1` or `sqlite3 -bail`; the empty
        text where nothing is missing. With `is_whole` all that make an empty store,
        without a look at this one: no server need be there. Nothing is changed.

        Raises:
            BackendUnavailableError: the store cannot be reached.
            SchemaError: it is not one of ours, or newer than this code.
            UnsupportedError: this store's schema is not made by statements.
        """
        if not isinstance(self.backend, Scripting):
            store = self.shown_store if self.settings.enabled else "noop://, the store where enabled = false,"
            raise UnsupportedError(f"{store} has no schema that statements make")
        return await self.backend.migration_script(is_whole=is_whole)

    # enqueue

    async def enqueue_task(
        self,
        worker: WorkerName,
        function: str | None = None,
        args: Sequence[Any] = (),
        *,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> TaskId:
        """
        Enqueue a call to run as soon as possible.

        `worker` and `function` name a registered task, as in
        `enqueue_task("myapp.tasks", "send_welcome", [42])`; a task stands for
        both: `enqueue_task(send_welcome, args=[42])`. What returned is stored.

        With `connection`, your own connection to the store's database, the job is
        enqueued inside your transaction, and exists if and only if that commits:

            connection = sqlite3.connect("tasks.db")
            with connection:
                connection.execute("INSERT INTO orders VALUES (42, 'new')")
                await manager.enqueue_task(send_invoice, args=[42], connection=connection)

        The connection is used here and now, in the calling thread. On SQLite an
        open transaction holds up all writers of the file, the workers too: keep
        it short, and await nothing else of the manager that writes before its end.
        On PostgreSQL it is psycopg's, SQLAlchemy's (a Session or a Connection),
        asyncpg's or Django's; an open transaction holds up those only who enqueue
        the same unique key, until it ends.

        In a task with `transactional=True` that a worker of this manager runs, the
        job joins that task's transaction by itself, without `connection`.

        Returns:
            The job's id; `.is_new` is False when a unique key is held, and then
            the id is its holder's, or when the same `task_id` was sent before.

        Raises:
            TaskNotFoundError, InvalidArgumentsError, InvalidOptionError: nothing was enqueued.
            DuplicateJobError: `task_id` names another call.
            UnsupportedError: `connection` was given, and the store has no transactions.
            BackendUnavailableError: send the call again, with the same `task_id`, as often as needed; or have it sent
                again for `enqueue_patience_seconds`.
        """
        task = self._find(worker, function)
        request = parse_options(options, base=task.request)
        await self._ready_to_enqueue(request, connection=request.connection)
        return await self._producer.enqueue(task, args, kwargs or {}, request)

    async def schedule_task(
        self,
        worker: WorkerName,
        function: str | None = None,
        args: Sequence[Any] = (),
        scheduled_at: datetime | timedelta | float | None = None,
        *,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> TaskId:
        """
        Enqueue a call to run at a time: an aware datetime, or a timedelta or seconds from now.

        A time that has passed means now. Otherwise as `enqueue_task`.
        """
        task = self._find(worker, function)
        if scheduled_at is None:
            raise InvalidOptionError(
                "schedule_task needs scheduled_at: an aware datetime, a timedelta or seconds; or use enqueue_task"
            )
        moment = parse_moment(scheduled_at)
        if options.get("delay_seconds") is not None:
            raise InvalidOptionError("schedule_task takes scheduled_at, so delay_seconds has no place; leave one out")
        request = parse_options(options, base=task.request)
        await self._ready_to_enqueue(request, connection=request.connection)
        return await self._producer.enqueue(task, args, kwargs or {}, request, moment)

    async def enqueue_many(
        self,
        calls: Iterable[TaskCall],
        *,
        atomic: bool = True,
        connection: object = None,
        enqueue_patience_seconds: Seconds | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[TaskId]:
        """
        Enqueue many calls in one transaction: `enqueue_many([send.call(n) for n in ids])`.

        All or none are stored. More than the store takes at once (10,000 on
        SQLite and PostgreSQL) needs `atomic=False`, which stores them batch by batch.
        Answers and errors are those of `enqueue_task`, in the order of the calls; an
        error begins with the bad call's place, such as `calls[500]`, from 0. So
        is `connection`, which is one for all of them. `enqueue_patience_seconds` is the calls' longest, unless it is
        given here; with `atomic=False` and `on_progress` each thousand has it.

        `on_progress` is called with how many of the calls are in the store: after each thousand with
        `atomic=False`, and otherwise once, for all of them. In a transaction of yours they are there when it commits.
        An error in it is logged, and loses no job.
        """
        check_progress(on_progress)
        checked = to_calls(calls)
        chosen = common_connection(checked, given=connection)
        for call in checked:
            self._own(call.task)
        patience = parse_patience(enqueue_patience_seconds)
        if chosen is not None:
            for each in (patience, *(call.request.patience for call in checked)):
                check_patience(each, connection=chosen)
        asked = (call.request for call in checked) if patience is None else (JobRequest(patience=patience),)
        await self._ready_to_enqueue(*asked, connection=chosen)
        if not checked:
            return []
        return await self._producer.enqueue_many(
            checked,
            atomic=atomic,
            connection=chosen,
            patience=patience,
            tally=Tally(on_progress) if on_progress else None,
        )

    def check_call(self, call: TaskCall) -> None:
        """
        Check a call as its enqueue would, without the store: `manager.check_call(send.call(42))`. Nothing is enqueued.

        Raises:
            InvalidArgumentsError, InvalidOptionError, UnsupportedError: it would be refused.
        """
        to_calls([call])
        self._own(call.task)
        self._producer.job(call)

    async def enqueue_request(
        self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], request: JobRequest, /
    ) -> TaskId:
        """Enqueue a call of a task that is bound to this manager, its options checked: what `task.enqueue(…)` does."""
        await self._ready_to_enqueue(request, connection=request.connection)
        return await self._producer.enqueue(task, args, kwargs, request)

    # recurring tasks

    async def schedule_recurring_task(
        self,
        name: str,
        worker: WorkerName,
        function: str | None = None,
        args: Sequence[Any] = (),
        cron_expression: str = "",
        *,
        kwargs: Mapping[str, Any] | None = None,
        timezone: str | None = None,
        missed_runs: str | None = None,
        overlap: str | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> RecurringTask:
        """
        Have a call enqueued again and again, once per due time however many workers there are.

        `cron_expression` has five fields, or six with seconds in front, or is
        `@daily` and the like, or `@every 30s`; it is read in `timezone`, by
        default UTC. `missed_runs`: of runs while no worker was there, make up for
        `once` (the last, as by default), `all` (up to 100) or `skip`. `overlap`:
        `skip` a run while a job of the entry has not ended, or `allow` it, as by default; of missed runs only the
        last is made up for then. `options` are those of an enqueue, for each job
        that is made; where another job holds the unique key, a run makes none.
        The same name updates the entry; with the same times it keeps its next
        run, and its pause in any case.
        """
        task = self._find(worker, function)
        request = parse_options(options, base=task.request)
        await self._ready()
        refuse_blocked_write(self.backend)
        entry = await self._planner.put(
            name,
            task,
            args,
            kwargs or {},
            request,
            cron_expression=cron_expression,
            timezone=timezone,
            missed_runs=missed_runs,
            overlap=overlap,
        )
        return to_recurring_task(entry, runs=1)

    async def declare_recurring_tasks(self, *, queues: Iterable[str] | None = None) -> list[RecurringTask]:
        """
        Put the recurring tasks that stand in the code, as `@task(cron=…)`, into the store; returns them by name.

        Each worker does this when it starts, so an application that runs workers need
        not call it. An entry has its task's name. Unchanged, it keeps its next run;
        with other times it starts after now and its last run; a pause is kept always.

        An entry that was declared once and is no more is removed where this manager
        knows its task: the decorator has lost its `cron`. Where the task itself is not
        known here the entry is kept, for it may belong to another application, or to
        the other version in a deploy; a warning names it if its queue is one of
        `queues`, by default those of the settings. What `schedule_recurring_task` made
        under another name is never touched; under the task's own name it becomes the
        declared one. While two versions of an application run, the one that started
        last decides. What `cancel_recurring_task` has removed stays away until its definition changes.
        """
        served = to_queues(self.settings.queues if queues is None else queues)
        await self._ready()
        refuse_blocked_write(self.backend)
        return [to_recurring_task(entry, runs=1) for entry in await self._planner.declare(self.registry, queues=served)]

    async def cancel_recurring_task(self, name: str) -> None:
        """
        Remove a recurring task and its history; jobs it has made stay. Raises ScheduleNotFoundError.

        An entry that the code declares is not brought back by a worker that starts, as long as its
        definition there stays the same; a change brings it back, and so does `resume_recurring_task`.
        """
        await self._ready_to_change()
        await self._planner.remove(name)

    async def pause_recurring_task(self, name: str) -> RecurringTask:
        """
        Have a recurring task make no more jobs, until it is resumed. Raises ScheduleNotFoundError.

        Jobs it has made go on. A deploy keeps the pause, also where it changes the times.
        """
        await self._ready_to_change()
        return to_recurring_task(await self._planner.pause(name), runs=1)

    async def resume_recurring_task(self, name: str) -> RecurringTask:
        """
        Have a paused recurring task go on with its first due time after now. Raises ScheduleNotFoundError.

        Runs that were due during the pause are not made up for. One that was removed although it stands in the
        code is brought back.
        """
        await self._ready_to_change()
        return to_recurring_task(await self._planner.resume(name), runs=1)

    async def list_removed_recurring_tasks(self) -> list[str]:
        """
        Return the names of the recurring tasks that were removed by request although they stand in the code.

        They fire nothing until their definition changes, or `resume_recurring_task` brings them back.
        """
        await self._ready_to_tell()
        return [schedule.name for schedule in (await self.backend.schedules()).removed]

    async def list_recurring_tasks(self, *, next_runs: int = 1) -> list[RecurringTask]:
        """Return the recurring tasks by name, each with its next due times, at most 1,000."""
        check_runs(next_runs)
        await self._ready_to_tell()
        return [to_recurring_task(entry, runs=next_runs) for entry in (await self.backend.schedules()).entries]

    async def get_recurring_task(self, name: str, *, next_runs: int = 1) -> RecurringTask:
        """Return one recurring task with its next due times, at most 1,000. Raises ScheduleNotFoundError."""
        check_runs(next_runs)
        await self._ready_to_tell()
        return to_recurring_task(await self._planner.entry(name), runs=next_runs)

    async def run_recurring_task(self, name: str) -> TaskId:
        """
        Enqueue a recurring task's job now, a paused one's too; its due times stay as they are.

        Where another job holds the unique key that its options claim, no job is made: the id is the
        holder's, and `.is_new` is False. Raises ScheduleNotFoundError.
        """
        await self._ready_to_change()
        return await self._planner.run_now(name)

    async def recurring_task_history(self, name: str, *, limit: int = 50) -> list[RecurringRun]:
        """
        Return the newest runs of a recurring task, the newest first, with what became of each.

        The newest 100 are kept, until the recurring task is removed. Raises ScheduleNotFoundError.
        """
        await self._ready_to_tell()
        return [to_recurring_run(run) for run in await self._planner.history(name, limit=limit)]

    # control

    async def cancel_task(self, task_id: str, *, reason: str = "cancelled by request") -> CancelOutcome:
        """
        Cancel a job.

        One that has not started ends at once (`cancelled`). A running one is
        asked to stop (`requested`): should its handler still return, it is
        completed, and otherwise cancelled.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it has ended already.
        """
        check_text("reason", reason)
        job_id = await self._checked(task_id)
        refuse_blocked_write(self.backend)
        return await self._operator.cancel(job_id, reason=reason)

    async def cancel_tasks(
        self,
        *,
        reason: str = "cancelled by request",
        on_progress: OnProgress | None = None,
        **conditions: Unpack[Conditions],
    ) -> int:
        """
        Cancel all jobs that meet the conditions of `list_tasks` and have not ended; returns how many.

        `on_progress` is called after each batch with how many there were so far.
        """
        target = to_filter(**conditions)
        check_text("reason", reason)
        check_progress(on_progress)
        await self._ready_to_change()
        return await self._operator.cancel_all(target, reason=reason, on_progress=on_progress)

    async def retry_task(self, task_id: str) -> None:
        """
        Make a failed, discarded or cancelled job pending again, with as many further attempts as it had at first.

        The delays between them begin anew, with `retry_delay_seconds`.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it has not ended, or completed.
        """
        job_id = await self._checked(task_id)
        refuse_blocked_write(self.backend)
        await self._operator.retry(job_id)

    async def retry_tasks(self, *, on_progress: OnProgress | None = None, **conditions: Unpack[Conditions]) -> int:
        """
        Retry all jobs that meet the conditions of `list_tasks`, by default all dead letters; returns how many.

        `on_progress` is called after each batch with how many there were so far.
        """
        conditions.setdefault("status", DEAD_LETTER)
        target = to_filter(**conditions)
        check_progress(on_progress)
        await self._ready_to_change()
        return await self._operator.retry_all(target, on_progress=on_progress)

    async def reschedule_task(self, task_id: str, at: datetime | timedelta | float) -> datetime:
        """
        Give a job that waits another due time: an aware datetime, or a timedelta or seconds from now.

        It may be scheduled, wait for a retry, or be pending. A time that has passed means now. Its
        expiry (`expires_in_seconds`) moves by the same shift; attempts, priority and unique key stay.
        Of a job that would have expired before its next attempt, the expiry is not brought forward.

        Returns:
            When it is due now, in UTC.

        Raises:
            InvalidOptionError: `at` is no time: without a zone, negative, or in the year 9000 or later.
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it runs, or has ended.
        """
        moment = parse_moment(at, option="at")
        job_id = await self._checked(task_id)
        refuse_blocked_write(self.backend)
        return await self._operator.reschedule(job_id, moment)

    async def run_task_now(self, task_id: str) -> None:
        """
        End the delay of a job: whatever it waits for, it is due now, and a worker is woken.

        So does a retry that is waited for, and a job that was put off or given back. What holds a job
        besides stays: a paused queue, the workers' slots, other jobs before it. Its expiry stays
        too. A pending job is due already: it stays as it is.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it runs, or has ended; `retry_task` runs one again that has.
        """
        job_id = await self._checked(task_id)
        refuse_blocked_write(self.backend)
        await self._operator.run_now(job_id)

    async def delete_task(self, task_id: str) -> None:
        """
        Delete a job that does not run. Unless it has completed, its unique key is free.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it runs; cancel it first.
        """
        job_id = await self._checked(task_id)
        refuse_blocked_write(self.backend)
        await self._operator.delete(job_id)

    async def delete_tasks(self, *, on_progress: OnProgress | None = None, **conditions: Unpack[Conditions]) -> int:
        """
        Delete all jobs that meet the conditions of `list_tasks` and do not run; returns how many.

        `on_progress` is called after each batch with how many there were so far.
        """
        target = to_filter(**conditions)
        check_progress(on_progress)
        await self._ready_to_change()
        return await self._operator.delete_all(target, on_progress=on_progress)

    async def pause_queue(self, queue: str) -> None:
        """Have no more jobs of a queue started, by any worker, until it is resumed. Running ones go on."""
        await self._set_pause(queue, datetime.now(UTC))

    async def resume_queue(self, queue: str) -> None:
        """Have jobs of a paused queue started again."""
        await self._set_pause(queue, None)

    async def cleanup_old_tasks(
        self,
        *,
        completed_days: float | None = None,
        failed_days: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """
        Delete ended jobs older than this many days, by default as the settings say; returns how many.

        `failed_days` covers failed, discarded and cancelled ones. Workers do
        this by themselves. It goes in batches, the oldest first, and rests
        between them; `on_progress` is called after each with how many there
        were so far. A store's file gets shorter meanwhile.
        """
        check_progress(on_progress)
        retention = retention_of(self.settings)
        if completed_days is not None:
            retention = Retention(completed=to_days("completed_days", completed_days), failed=retention.failed)
        if failed_days is not None:
            retention = Retention(completed=retention.completed, failed=to_days("failed_days", failed_days))
        await self._ready_to_change()
        return await self._operator.clean_up(retention, on_progress=on_progress)

    async def compact_store(self) -> int:
        """
        Give the space that deleted jobs left back to the machine at once; returns the bytes.

        A store that needs no such thing answers 0. SQLite gives space back by
        itself, a little with each clean-up; this rebuilds the whole file, also
        one that was not made by `deeper_tasks`. It takes some seconds a
        gigabyte and as much free space again, and meanwhile nothing is
        written: enqueues and workers wait, and after the store's timeout get
        BackendUnavailableError.
        """
        await self._ready()
        refuse_blocked_write(self.backend)
        return await self._operator.compact()

    # look

    async def get_task_status(self, task_id: str) -> TaskStatus:
        """
        Return all that is known of a job, and what it waits for if it has not begun. Raises JobNotFoundError.

        A job that a worker has claimed ahead of its turn is pending. What it waits for is left out where the
        user of the store may see jobs, and not queues and workers.
        """
        job = await self._get(task_id)
        if not may_wait(job):
            return to_status(job)
        try:
            service = await self.backend.service(job.queue, task=job.task)
        except AccessError:
            return to_status(job)
        return to_status(job, waiting_for=waiting_for(job, service, lease=self._lease))

    async def expand_task_id(self, task_id: str) -> str:
        """
        Return the whole id of the job whose id begins with `task_id`: 13 of its digits or more.

        For ids that people type; all other methods take whole ids only. A whole id is returned as it is,
        whether or not there is such a job.

        Raises:
            AmbiguousIdError: the ids of several jobs begin so; the error has them.
            JobNotFoundError: none does.
            InvalidOptionError: it has fewer than 13 digits.
        """
        checked = check_id(task_id)
        await self._ready_to_tell()
        return parse_id(checked) or await expand(self.backend, checked)

    async def shorten_task_ids(self, task_ids: Iterable[str]) -> list[str]:
        """Return, for each id, the fewest of its digits that name the job alone just now: 13 at least."""
        ids = [await self._checked(task_id) for task_id in task_ids]
        return await shorten(self.backend, ids)

    async def list_tasks(
        self,
        *,
        page: int = 1,
        per_page: int = 50,
        sort_by: str = "inserted_at",
        descending: bool = True,
        cursor: str | None = None,
        **conditions: Unpack[Conditions],
    ) -> Page:
        """
        Return a page of jobs.

        Conditions: `status` (one or several), `queue`, `worker_module` (a module or class, or its dotted name),
        `task` and `tag`. `sort_by`: inserted_at, scheduled_at or finished_at. `cursor`,
        the page before's `next_cursor`, takes the place of `page`.
        """
        check_page(page, per_page)
        query = JobQuery(
            filter=to_filter(**conditions),
            sort_by=to_sort_key(sort_by),
            is_descending=descending,
            limit=per_page,
            offset=0 if cursor is not None else (page - 1) * per_page,
            after=None if cursor is None else read_cursor(cursor),
        )
        await self._ready_to_tell()
        return to_page(await self.backend.find(query), page=page, per_page=per_page)

    async def list_dead_letters(
        self,
        *,
        page: int = 1,
        per_page: int = 50,
        sort_by: str = "finished_at",
        descending: bool = True,
        cursor: str | None = None,
        queue: str | None = None,
        worker_module: str | ModuleType | type | None = None,
        task: str | Task[..., Any] | None = None,
        tag: str | None = None,
    ) -> Page:
        """
        Return a page of the failed and discarded jobs, the latest first: what `retry_tasks` means by default.

        `errors` of each entry holds why every attempt failed. Otherwise as `list_tasks`.
        """
        return await self.list_tasks(
            page=page,
            per_page=per_page,
            sort_by=sort_by,
            descending=descending,
            cursor=cursor,
            status=DEAD_LETTER,
            queue=queue,
            worker_module=worker_module,
            task=task,
            tag=tag,
        )

    async def get_statistics(self) -> Statistics:
        """Return the counts of every queue and of the workers."""
        await self._ready_to_tell()
        return to_statistics(await self.backend.statistics(), lease=self._lease)

    async def get_overview(self) -> Overview:
        """Return the queues and the workers one by one: what an operator looks at. It costs what statistics cost."""
        await self._ready_to_tell()
        return to_overview(await self.backend.statistics(), lease=self._lease)

    async def diagnose(self, *, deep: bool = False, on_check: OnCheck = say_nothing) -> list[Finding]:
        """
        Examine the store and what goes on in it; returns what was found, good and bad.

        A store that cannot be reached, or does not fit, is a finding and no error.
        None is made. `deep` reads the whole store, every job too, which takes its time,
        and names the rows that cannot be read.
        `on_check` is called with the name of each check before it begins.
        """
        from deeper_tasks.manager.diagnosis import examine

        return await examine(self.backend, settings=self.settings, registry=self.registry, deep=deep, on_check=on_check)

    async def result(self, task_id: str, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - the word users know
        """
        Wait for a job's end and return its result; None where it has none.

        Raises:
            TimeoutError: it had not ended after `timeout` seconds; it goes on. The message says its state and what it
                waits for.
            JobNotCompletedError: it ended otherwise than completed; the message says how.
            JobNotFoundError: there is no such job.
            DamagedError: its result is stored, and cannot be read.
        """
        pause = _FIRST_LOOK
        try:
            async with asyncio.timeout(timeout) as limit:
                while not (job := await self._get(task_id)).state.is_terminal:
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, _LONGEST_LOOK)
        except TimeoutError:
            if timeout is None or not limit.expired():
                raise
            where = await self._where_it_stands(task_id)
            raise TimeoutError(f"the job {task_id} had not ended after {readable(timeout)}: {where}") from None
        status = to_status(job)
        if status.status is State.COMPLETED:
            unreadable = [each for each in status.damage if each.field == "result"]
            if unreadable:
                raise DamagedError(f"the result of the job {task_id} cannot be read: {described(unreadable)}")
            return status.result
        raise JobNotCompletedError(f"the job {task_id} ended as {status.status}: {status.last_error or 'no error'}")

    # inside

    async def _where_it_stands(self, task_id: str) -> str:
        """Return the state of a job and what it waits for; of a store that is slow only that, soon."""
        try:
            async with asyncio.timeout(_PATIENCE):
                status = await self.get_task_status(task_id)
        except (TimeoutError, BackendUnavailableError):
            return "the store does not answer"
        except JobNotFoundError:
            return "it is not there any more"
        if status.waiting_for is not None:
            return f"it is {status.status}; {status.waiting_for.message}"
        return f"it is {status.status}" + (
            "" if status.node is None else f", attempt {status.attempts} on {status.node}"
        )

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self.settings.lease_seconds)

    def _work_on(self, backend: Backend | None, *, name: str | None = None) -> None:
        self.backend = backend or self._make_backend()
        self._is_by_url = backend is None
        url = self.settings.url if self.settings.enabled else "noop://"
        store = name or (shown_store(url, self.backend) if backend is None else type(backend).__name__)
        self._terms = terms_of(self.backend, self.settings, store=store)
        self.availability = Availability(bus=self.events)
        self._producer = Producer(
            backend=self.backend,
            settings=self.settings,
            bus=self.events,
            identity=self.identity,
            check=self._terms.check,
            availability=self.availability,
            ready=self._ready,
        )
        self._planner = RecurringTasks(backend=self.backend, jobs=self._producer.jobs, bus=self.events)
        self._operator = JobControl(backend=self.backend, bus=self.events)

    def _make_backend(self) -> Backend:
        if not self.settings.enabled:
            return make_backend("noop://")
        settings = self.settings
        return make_backend(settings.url, listen_url=settings.listen_url, joined_hints=settings.joined_hints)

    @contextmanager
    def _lent_to(self, backend: Backend) -> Iterator[None]:
        """Work on another store inside the `with`, then on this manager's own as before. For the testing kit."""
        before = dict(vars(self))
        self._work_on(backend, name="that of this test")
        self._is_open = False
        try:
            yield
        finally:
            vars(self).update(before)

    def _admit(self, task: AnyTask) -> None:
        self._terms.check(task, task.request)

    def _register(self, task: Task[P, R]) -> Task[P, R]:
        self.registry.add(task)
        task.bind(self)
        return task

    def _find(self, worker: WorkerName, function: str | None) -> AnyTask:
        if isinstance(worker, Task):
            if function is not None:
                raise TaskError(f"{worker!r} is the whole task: write enqueue_task(task, args=[…])")
            return self._own(worker)
        if function is None:
            raise TaskError(no_task(worker))
        if (message := no_function(worker, function)) is not None:
            raise TaskError(message)
        task = self.registry.find(worker, function)
        task.bind(self)
        return task

    def _own(self, task: AnyTask) -> AnyTask:
        if self.registry.get(task.name) is not task:
            self._register(task)
        return task

    async def _ready(self, *, will_join: bool = False) -> None:
        """Open the store before its first use; `will_join`: an insert with a caller's connection follows."""
        process_watch.notice()
        if self._is_open:
            return
        if not will_join or not self.backend.capabilities.has_transactions:
            await self._open()
            return
        # Not open yet: what the insert makes in the caller's transaction may be rolled back.
        self._is_joined = True
        if await self.backend.open(will_join=True):
            self._note_new_store()

    async def _ready_to_enqueue(self, *requests: JobRequest, connection: object) -> None:
        """Do as `_ready`; for a patient enqueue, which tries it again, a store that is away is no error yet."""
        try:
            await self._ready(will_join=connection is not None)
        except BackendUnavailableError:
            if connection is not None or not any(map(self._producer.patience_of, requests)):
                raise

    async def _ready_to_tell(self) -> None:
        """
        Do as `_ready`, for what asks about jobs, queues or recurring tasks, or changes those that are there.

        Raises:
            UnsupportedError: tasks are disabled here, so nothing is known of any.
        """
        await self._ready()
        if not self.backend.capabilities.runs_jobs:
            raise UnsupportedError(
                "tasks are disabled here: what is enqueued is accepted, and neither kept nor run, so there is nothing "
                "to tell or to change; set enabled = true, and a url other than noop://"
            )

    async def _ready_to_change(self) -> None:
        """
        Do as `_ready_to_tell`, for what changes jobs, queues or recurring tasks that are there.

        Raises:
            TransactionError: the change would wait for the transaction of the job that asks for it.
        """
        await self._ready_to_tell()
        refuse_blocked_write(self.backend)

    def _note_new_store(self) -> None:
        self._has_made_store = True
        if not self._is_worker:
            self._tell_of_new_store(is_worker=False)

    def _tell_of_new_store(self, *, is_worker: bool) -> None:
        url, backend = self.settings.url, self.backend
        place = backend.location if isinstance(backend, Located) else redacted(url)
        is_elsewhere = self._is_by_url and isinstance(backend, Located) and begins_elsewhere(url, backend.location)
        self.events.emit(StoreMade(place=place, url=redacted(url), is_worker=is_worker, is_elsewhere=is_elsewhere))

    async def _get(self, task_id: str) -> Job:
        job_id = await self._checked(task_id)
        job = await self.backend.get(job_id)
        self.availability.mark_working(by=_NAME)
        if job is None:
            raise JobNotFoundError(f"no job has the id {task_id!r}; it may have been cleaned up")
        return job

    async def _checked(self, task_id: str) -> JobId:
        await self._ready_to_tell()
        job_id = parse_id(task_id)
        if job_id is None:
            raise JobNotFoundError(f"no job has the id {task_id!r}: ids are UUIDs")
        return job_id

    async def _set_pause(self, queue: str, paused_at: datetime | None) -> None:
        name = parse_options({"queue": queue}).queue
        if name is None:
            raise InvalidOptionError("option 'queue' cannot be None: name the queue")
        await self._ready_to_change()
        await self._operator.set_queue(name, paused_at=paused_at)
