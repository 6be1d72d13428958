"""Control: change or delete jobs that are in the store."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Unpack

from deeper_tasks.backends.protocol import Retention
from deeper_tasks.domain.state import DEAD_LETTER
from deeper_tasks.manager.areas.area import Area
from deeper_tasks.manager.conditions import Conditions, to_days, to_filter
from deeper_tasks.manager.input_checks import (
    check_progress,
    check_text,
)
from deeper_tasks.manager.progress import OnProgress
from deeper_tasks.manager.views import (
    CancelOutcome,
)
from deeper_tasks.manager.worker_settings import retention_of
from deeper_tasks.tasks import (
    parse_moment,
)


class ControlArea(Area):
    """Control: change or delete jobs that are in the store."""

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
        job_id = await self._parts.store.id_to_change(task_id)
        return await self._parts.control.cancel(job_id, reason=reason)

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
        await self._parts.store.ready_to_change()
        return await self._parts.control.cancel_all(target, reason=reason, on_progress=on_progress)

    async def retry_task(self, task_id: str) -> None:
        """
        Make a failed, discarded or cancelled job pending again, with as many further attempts as it had at first.

        The delays between them begin anew, with `retry_delay_seconds`.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it has not ended, or completed.
        """
        job_id = await self._parts.store.id_to_change(task_id)
        await self._parts.control.retry(job_id)

    async def retry_tasks(self, *, on_progress: OnProgress | None = None, **conditions: Unpack[Conditions]) -> int:
        """
        Retry all jobs that meet the conditions of `list_tasks`, by default all dead letters; returns how many.

        `on_progress` is called after each batch with how many there were so far.
        """
        conditions.setdefault("status", DEAD_LETTER)
        target = to_filter(**conditions)
        check_progress(on_progress)
        await self._parts.store.ready_to_change()
        return await self._parts.control.retry_all(target, on_progress=on_progress)

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
        job_id = await self._parts.store.id_to_change(task_id)
        return await self._parts.control.reschedule(job_id, moment)

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
        job_id = await self._parts.store.id_to_change(task_id)
        await self._parts.control.run_now(job_id)

    async def delete_task(self, task_id: str) -> None:
        """
        Delete a job that does not run. Unless it has completed, its unique key is free.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it runs; cancel it first.
        """
        job_id = await self._parts.store.id_to_change(task_id)
        await self._parts.control.delete(job_id)

    async def delete_tasks(self, *, on_progress: OnProgress | None = None, **conditions: Unpack[Conditions]) -> int:
        """
        Delete all jobs that meet the conditions of `list_tasks` and do not run; returns how many.

        `on_progress` is called after each batch with how many there were so far.
        """
        target = to_filter(**conditions)
        check_progress(on_progress)
        await self._parts.store.ready_to_change()
        return await self._parts.control.delete_all(target, on_progress=on_progress)

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
        retention = retention_of(self._core.settings)
        if completed_days is not None:
            retention = Retention(completed=to_days("completed_days", completed_days), failed=retention.failed)
        if failed_days is not None:
            retention = Retention(completed=retention.completed, failed=to_days("failed_days", failed_days))
        await self._parts.store.ready_to_change()
        return await self._parts.control.clean_up(retention, on_progress=on_progress)

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
        await self._parts.store.ready_to_write()
        return await self._parts.control.compact()
