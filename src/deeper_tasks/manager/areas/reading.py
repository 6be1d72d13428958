"""Reading: the state of jobs, queues and workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Unpack

from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.domain.damage import described
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, OnCheck, say_nothing
from deeper_tasks.domain.state import DEAD_LETTER, State
from deeper_tasks.errors import (
    AccessError,
    BackendUnavailableError,
    DamagedError,
    JobNotCompletedError,
    JobNotFoundError,
)
from deeper_tasks.manager.areas.area import Area
from deeper_tasks.manager.conditions import Conditions, check_page, to_filter, to_sort_key
from deeper_tasks.manager.cursors import read_cursor
from deeper_tasks.manager.overview import Overview, to_overview
from deeper_tasks.manager.short_ids import shorten, whole_id
from deeper_tasks.manager.views import (
    Page,
    Statistics,
    TaskStatus,
    to_page,
    to_statistics,
    to_status,
)
from deeper_tasks.manager.waiting import may_wait, waiting_for
from deeper_tasks.tasks import (
    Task,
)

_FIRST_LOOK, _LONGEST_LOOK = 0.002, 0.25
_PATIENCE = 1.0
"""Seconds for which `result`, after its timeout, asks why the job has not ended."""


class ReadingArea(Area):
    """Reading: the state of jobs, queues and workers."""

    async def get_task_status(self, task_id: str) -> TaskStatus:
        """
        Return all that is known of a job, and why it waits if it has not started. Raises JobNotFoundError.

        A job that a worker has claimed ahead of its turn is pending. `waiting_for` is None if this user of the database
        may read jobs, but not queues and workers.
        """
        job = await self._parts.store.get(task_id)
        if not may_wait(job):
            return to_status(job)
        try:
            service = await self._parts.backend.service(job.queue, task=job.task)
        except AccessError:
            return to_status(job)
        return to_status(job, waiting_for=waiting_for(job, service, lease=self._core.lease))

    async def expand_task_id(self, task_id: str) -> str:
        """
        Return the whole id of the job whose id begins with `task_id`, which has 13 digits of a UUID or more.

        It is for ids that people type; all other functions take whole ids only. A whole id is returned as it is, even
        if there is no such job. Ids of a store that makes its own, such as numbers, are always given whole.

        Raises:
            AmbiguousIdError: the ids of several jobs begin with `task_id`; the error has these ids.
            JobNotFoundError: no job's id begins with it.
            InvalidOptionError: it has fewer than 13 digits.
        """
        await self._parts.store.ready_to_read()
        return await whole_id(self._parts.backend, task_id)

    async def shorten_task_ids(self, task_ids: Iterable[str]) -> list[str]:
        """
        Return each id cut to its first digits, at least 13, so that no other job of the store has the same now.

        Ids that are not UUIDs, of a store that makes its own, are returned whole.
        """
        ids = [await self._parts.store.id_to_read(task_id) for task_id in task_ids]
        return await shorten(self._parts.backend, ids)

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

        The conditions are `status` (one or several), `queue`, `worker_module` (a module or class, or its dotted name),
        `task` and `tag`. `sort_by` is inserted_at, scheduled_at or finished_at. `cursor` is the `next_cursor` of the
        page before, in the same order, and is used instead of `page`.

        Raises:
            InvalidOptionError: a condition, `sort_by`, the page or the cursor cannot be used.
        """
        check_page(page, per_page)
        key, is_descending, ids = to_sort_key(sort_by), bool(descending), self._parts.backend.capabilities.ids
        query = JobQuery(
            filter=to_filter(**conditions),
            sort_by=key,
            is_descending=is_descending,
            limit=per_page,
            offset=0 if cursor is not None else (page - 1) * per_page,
            after=None if cursor is None else read_cursor(cursor, sort_by=key, is_descending=is_descending, ids=ids),
        )
        await self._parts.store.ready_to_read()
        return to_page(await self._parts.backend.find(query), query, page=page)

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
        Return a page of the failed and discarded jobs, the latest first: the jobs that `retry_tasks` retries by
        default.

        `errors` of each entry says why each attempt failed. Everything else is as with `list_tasks`.
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
        await self._parts.store.ready_to_read()
        return to_statistics(await self._parts.backend.statistics(), lease=self._core.lease)

    async def get_overview(self) -> Overview:
        """Return each queue and each worker, for an operator. It costs as much as `get_statistics`."""
        await self._parts.store.ready_to_read()
        return to_overview(await self._parts.backend.statistics(), lease=self._core.lease)

    async def diagnose(self, *, deep: bool = False, on_check: OnCheck = say_nothing) -> list[Finding]:
        """
        Examine the store, its jobs, queues and workers; return the findings, good and bad.

        A store that cannot be reached, or has another schema, is a finding and raises no error. A missing store is not
        made. `deep` reads the whole store with every job, which takes long, and names the rows that cannot be read.
        `on_check` is called with the name of each check before it begins.
        """
        from deeper_tasks.manager.diagnosis import examine

        return await examine(
            self._parts,
            settings=self._core.settings,
            registry=self._core.tasks.registry,
            deep=deep,
            on_check=on_check,
        )

    async def result(self, task_id: str, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - the word users know
        """
        Wait until a job ends and return its result, or None if it has no result.

        Raises:
            TimeoutError: the job has not ended after `timeout` seconds, and goes on. The message has its state and the
                reason why it waits.
            JobNotCompletedError: the job ended in another state than completed; the message names the state.
            JobNotFoundError: there is no such job.
            DamagedError: the stored result cannot be read.
        """
        pause = _FIRST_LOOK
        try:
            async with asyncio.timeout(timeout) as limit:
                while not (job := await self._parts.store.get(task_id)).state.is_terminal:
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

    async def _where_it_stands(self, task_id: str) -> str:
        """Return in words the state of a job and why it waits; if the store is slow, say only that, after a second."""
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
