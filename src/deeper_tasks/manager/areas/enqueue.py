"""Enqueuing: calls of tasks become jobs in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack

from deeper_tasks.errors import (
    BackendUnavailableError,
    InvalidOptionError,
)
from deeper_tasks.manager.areas.area import Area
from deeper_tasks.manager.input_checks import (
    check_progress,
    to_calls,
)
from deeper_tasks.manager.jobs import AnyTask
from deeper_tasks.manager.known_tasks import WorkerName
from deeper_tasks.manager.producer import common_connection
from deeper_tasks.manager.progress import OnProgress, Tally
from deeper_tasks.tasks import (
    EnqueueOptions,
    JobRequest,
    Seconds,
    TaskCall,
    TaskId,
    check_patience,
    parse_moment,
    parse_options,
    parse_patience,
)


class EnqueueArea(Area):
    """Enqueuing: calls of tasks become jobs in the store."""

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
        both: `enqueue_task(send_welcome, args=[42])`. When the call returns, the job is stored.

        With `connection`, your own connection to the store's database, the job is
        enqueued inside your transaction, and exists if and only if that commits:

            connection = sqlite3.connect("tasks.db")
            with connection:
                connection.execute("INSERT INTO orders VALUES (42, 'new')")
                await manager.enqueue_task(send_invoice, args=[42], connection=connection)

        The connection is used during the call, in the calling thread. On SQLite an open transaction blocks all writers
        of the file, the workers too: keep it short, and call nothing else of the manager that writes before it ends. On
        PostgreSQL the connection is psycopg's, SQLAlchemy's (a Session or a Connection), asyncpg's or Django's; an open
        transaction blocks only enqueues of the same unique key, until it ends.

        In a task with `transactional=True` that a worker of this manager runs, the job joins the transaction of that
        task without `connection`.

        Returns:
            The job's id. `.is_new` is False if the job was there already: another job holds the unique key, and the id
            is that job's; or the same `task_id` was sent before.

        Raises:
            TaskNotFoundError, InvalidArgumentsError, InvalidOptionError: nothing was enqueued.
            DuplicateJobError: `task_id` names another call.
            UnsupportedError: `connection` was given, and the store has no transactions.
            BackendUnavailableError: the store did not answer. Send the call again with the same `task_id`, as often as
                needed; with `enqueue_patience_seconds` the manager does so.
        """
        task = self._core.tasks.find(worker, function)
        request = parse_options(options, base=task.request)
        await self._ready(request, connection=request.connection)
        return await self._parts.producer.enqueue(task, args, kwargs or {}, request)

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

        A time that has passed means now. Everything else is as with `enqueue_task`.
        """
        task = self._core.tasks.find(worker, function)
        if scheduled_at is None:
            raise InvalidOptionError(
                "schedule_task needs scheduled_at: an aware datetime, a timedelta or seconds; or use enqueue_task"
            )
        moment = parse_moment(scheduled_at)
        if options.get("delay_seconds") is not None:
            raise InvalidOptionError("schedule_task takes scheduled_at, so delay_seconds has no place; leave one out")
        request = parse_options(options, base=task.request)
        await self._ready(request, connection=request.connection)
        return await self._parts.producer.enqueue(task, args, kwargs or {}, request, moment)

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

        All calls are stored, or none. More calls than the store takes at once (10,000 on SQLite and PostgreSQL) need
        `atomic=False`, which stores them batch by batch. The answers are those of `enqueue_task`, in the order of the
        calls. So are the errors; the message begins with the position of the bad call, such as `calls[500]`, counted
        from 0. `connection` works as with `enqueue_task`, for all calls. `enqueue_patience_seconds` is by default the
        longest of the calls; with `atomic=False` and `on_progress` it counts for each thousand calls.

        `on_progress` is called with the number of calls in the store: after each thousand with `atomic=False`, and
        otherwise once, for all. Inside your own transaction the jobs exist when it commits. An error in `on_progress`
        is logged, and no job is lost.
        """
        check_progress(on_progress)
        checked = to_calls(calls)
        chosen = common_connection(checked, given=connection)
        for call in checked:
            self._core.tasks.adopt(call.task)
        patience = parse_patience(enqueue_patience_seconds)
        if chosen is not None:
            for each in (patience, *(call.request.patience for call in checked)):
                check_patience(each, connection=chosen)
        asked = (call.request for call in checked) if patience is None else (JobRequest(patience=patience),)
        await self._ready(*asked, connection=chosen)
        if not checked:
            return []
        return await self._parts.producer.enqueue_many(
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
            InvalidArgumentsError, InvalidOptionError, UnsupportedError: the enqueue would be refused.
        """
        to_calls([call])
        self._core.tasks.adopt(call.task)
        self._parts.producer.job(call)

    async def enqueue_request(
        self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], request: JobRequest, /
    ) -> TaskId:
        """Enqueue a call of a task that is bound to this manager, its options checked: what `task.enqueue(…)` does."""
        await self._ready(request, connection=request.connection)
        return await self._parts.producer.enqueue(task, args, kwargs, request)

    async def _ready(self, *requests: JobRequest, connection: object) -> None:
        """Open the store for an enqueue. A store that is away is no error where the enqueue will be tried again."""
        try:
            await self._parts.store.ready(will_join=connection is not None)
        except BackendUnavailableError:
            if connection is not None or not any(map(self._parts.producer.patience_of, requests)):
                raise
