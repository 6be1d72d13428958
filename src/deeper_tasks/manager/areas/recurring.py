"""Recurring tasks: register, pause, run and list them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

from deeper_tasks.manager.areas.area import Area
from deeper_tasks.manager.input_checks import (
    check_runs,
    to_queues,
)
from deeper_tasks.manager.jobs import to_unique
from deeper_tasks.manager.known_tasks import WorkerName
from deeper_tasks.manager.recurring import parse_times
from deeper_tasks.manager.views import (
    RecurringRun,
    RecurringTask,
    to_recurring_run,
    to_recurring_task,
)
from deeper_tasks.tasks import (
    EnqueueOptions,
    TaskId,
    parse_options,
)


class RecurringArea(Area):
    """Recurring tasks: register, pause, run and list them."""

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
        Have a call enqueued again and again, once for each due time, however many workers there are.

        `cron_expression` has five fields, or six with seconds in front, or is a word such as `@daily`, or `@every 30s`.
        It is read in `timezone`, by default UTC. `missed_runs` says which of the runs that were due while no worker was
        there are made up for: `once` (the last of them, the default), `all` (up to 100) or `skip`. `overlap` says
        whether a run is made while a job of the entry has not ended: `allow` (the default) or `skip`; with `skip`, only
        the last of several missed runs is made up for. `options` are those of an enqueue, for each job; a run makes no
        job while another job holds the unique key. The same name updates the entry: it keeps its pause, and its next
        run if the times are the same.
        """
        task = self._core.tasks.find(worker, function)
        request = parse_options(options, base=task.request)
        parts = self._parts
        await parts.store.ready_to_write()
        spec = parts.recurring.spec(task, args, kwargs or {}, request)
        times = parse_times(cron_expression, timezone=timezone, missed_runs=missed_runs, overlap=overlap)
        entry = await parts.recurring.put(name, spec, unique=to_unique(spec, request), times=times)
        return to_recurring_task(entry, runs=1)

    async def declare_recurring_tasks(self, *, queues: Iterable[str] | None = None) -> list[RecurringTask]:
        """
        Put the recurring tasks that the code declares, as `@task(cron=…)`, into the store; return them by name.

        Each worker does this when it starts, so an application that runs workers need not call it. An entry has the
        name of its task. An unchanged entry keeps its next run; an entry with other times begins after now and after
        its last run. A pause is always kept.

        An entry that the code does not declare any more is removed if this manager knows its task: the decorator has
        lost its `cron`. If the task is not known here, the entry is kept, because it may belong to another application,
        or to the other version in a deploy; a warning names it if its queue is one of `queues`, by default those of the
        settings. Entries that `schedule_recurring_task` made under another name are never changed; an entry under the
        task's own name becomes the declared one. While two versions of an application run, the version that started
        last decides. An entry that `cancel_recurring_task` removed stays away until its definition changes.
        """
        served = to_queues(self._core.settings.queues if queues is None else queues)
        await self._parts.store.ready_to_write()
        entries = await self._parts.recurring.declare(self._core.tasks.registry, queues=served)
        return [to_recurring_task(entry, runs=1) for entry in entries]

    async def cancel_recurring_task(self, name: str) -> None:
        """
        Remove a recurring task and its history; its jobs stay. Raises ScheduleNotFoundError.

        If the code declares the entry, workers that start do not bring it back while its definition stays the same. A
        changed definition brings it back, and so does `resume_recurring_task`.
        """
        await self._parts.store.ready_to_change()
        await self._parts.recurring.remove(name)

    async def pause_recurring_task(self, name: str) -> RecurringTask:
        """
        Pause a recurring task: it makes no jobs until it is resumed. Raises ScheduleNotFoundError.

        Jobs that it has made go on. A deploy keeps the pause, also if it changes the times.
        """
        await self._parts.store.ready_to_change()
        return to_recurring_task(await self._parts.recurring.pause(name), runs=1)

    async def resume_recurring_task(self, name: str) -> RecurringTask:
        """
        Resume a paused recurring task at its first due time after now. Raises ScheduleNotFoundError.

        Runs that were due during the pause are not made up for. A recurring task that was removed although the code
        declares it is brought back.
        """
        await self._parts.store.ready_to_change()
        return to_recurring_task(await self._parts.recurring.resume(name), runs=1)

    async def list_removed_recurring_tasks(self) -> list[str]:
        """
        Return the names of the recurring tasks that were removed by request although the code declares them.

        They make no jobs until their definition changes, or `resume_recurring_task` brings them back.
        """
        await self._parts.store.ready_to_read()
        return [schedule.name for schedule in (await self._parts.recurring.book()).removed]

    async def list_recurring_tasks(self, *, next_runs: int = 1) -> list[RecurringTask]:
        """Return the recurring tasks by name, each with its next due times, at most 1,000."""
        check_runs(next_runs)
        await self._parts.store.ready_to_read()
        return [to_recurring_task(entry, runs=next_runs) for entry in (await self._parts.recurring.book()).entries]

    async def get_recurring_task(self, name: str, *, next_runs: int = 1) -> RecurringTask:
        """Return one recurring task with its next due times, at most 1,000. Raises ScheduleNotFoundError."""
        check_runs(next_runs)
        await self._parts.store.ready_to_read()
        return to_recurring_task(await self._parts.recurring.entry(name), runs=next_runs)

    async def run_recurring_task(self, name: str) -> TaskId:
        """
        Enqueue the job of a recurring task now, even if it is paused; its due times stay as they are.

        If another job holds the unique key, no job is made: the id is that job's, and `.is_new` is False. Raises
        ScheduleNotFoundError.
        """
        await self._parts.store.ready_to_change()
        return await self._parts.recurring.run_now(name)

    async def recurring_task_history(self, name: str, *, limit: int = 50) -> list[RecurringRun]:
        """
        Return the newest runs of a recurring task, the newest first, with the outcome of each.

        The newest 100 runs are kept, until the recurring task is removed. Raises ScheduleNotFoundError.
        """
        await self._parts.store.ready_to_read()
        return [to_recurring_run(run) for run in await self._parts.recurring.history(name, limit=limit)]
