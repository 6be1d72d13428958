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

        A job that has not started ends at once (`cancelled`). A running job is asked to stop (`requested`): it ends as
        cancelled, or as completed if its handler returns all the same.

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
        Cancel all jobs that meet the conditions of `list_tasks` and have not ended; return their number.

        `on_progress` is called after each batch with the number of jobs so far.
        """
        target = to_filter(**conditions)
        check_text("reason", reason)
        check_progress(on_progress)
        await self._parts.store.ready_to_change()
        return await self._parts.control.cancel_all(target, reason=reason, on_progress=on_progress)

    async def retry_task(self, task_id: str) -> None:
        """
        Make a failed, discarded or cancelled job pending again, with as many more attempts as it had at first.

        The delays between these attempts begin with `retry_delay_seconds` again.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it has not ended, or completed.
        """
        job_id = await self._parts.store.id_to_change(task_id)
        await self._parts.control.retry(job_id)

    async def retry_tasks(self, *, on_progress: OnProgress | None = None, **conditions: Unpack[Conditions]) -> int:
        """
        Retry all jobs that meet the conditions of `list_tasks`, by default all dead letters; return their number.

        `on_progress` is called after each batch with the number of jobs so far.
        """
        conditions.setdefault("status", DEAD_LETTER)
        target = to_filter(**conditions)
        check_progress(on_progress)
        await self._parts.store.ready_to_change()
        return await self._parts.control.retry_all(target, on_progress=on_progress)

    async def reschedule_task(self, task_id: str, at: datetime | timedelta | float) -> datetime:
        """
        Give a waiting job another due time: an aware datetime, or a timedelta or seconds from now.

        The job may be scheduled, retryable or pending. A time that has passed means now. The job's expiry
        (`expires_in_seconds`) moves by the same span; attempts, priority and unique key stay. The expiry of a job that
        would have expired before its next attempt is not moved to an earlier time.

        Returns:
            The new due time, in UTC.

        Raises:
            InvalidOptionError: `at` cannot be a due time: it has no time zone, is negative, or is after the year 8999.
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it runs, or has ended.
        """
        moment = parse_moment(at, option="at")
        job_id = await self._parts.store.id_to_change(task_id)
        return await self._parts.control.reschedule(job_id, moment)

    async def run_task_now(self, task_id: str) -> None:
        """
        Make a job due now, and wake a worker for it.

        It ends any delay: a scheduled time, the wait for a retry, a snooze, a release. A paused queue, busy workers and
        other jobs before it still hold the job, and its expiry stays. A pending job is due already and stays as it is.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it runs, or has ended; `retry_task` runs an ended job again.
        """
        job_id = await self._parts.store.id_to_change(task_id)
        await self._parts.control.run_now(job_id)

    async def delete_task(self, task_id: str) -> None:
        """
        Delete a job that does not run. Its unique key becomes free, unless the job has completed.

        Raises:
            JobNotFoundError: there is no such job.
            InvalidTransitionError: it runs; cancel it first.
        """
        job_id = await self._parts.store.id_to_change(task_id)
        await self._parts.control.delete(job_id)

    async def delete_tasks(self, *, on_progress: OnProgress | None = None, **conditions: Unpack[Conditions]) -> int:
        """
        Delete all jobs that meet the conditions of `list_tasks` and do not run; return their number.

        `on_progress` is called after each batch with the number of jobs so far.
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
        Delete jobs that ended more than this many days ago, by default as the settings say; return their number.

        `failed_days` is for failed, discarded and cancelled jobs. Workers clean up by themselves, so you seldom need
        this. It deletes in batches, the oldest jobs first, with pauses between them. `on_progress` is called after each
        batch with the number of jobs so far. The file of an SQLite store gets smaller meanwhile.
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
        Give the space of deleted jobs back to the machine at once; return the number of bytes.

        It returns 0 for a store that does not need this. SQLite gives space back by itself, a little with each
        clean-up; this rebuilds the whole file, with the tables of your application. It takes some seconds for each
        gigabyte, and needs as much free space again. Nothing can be written meanwhile: enqueues and workers wait, and
        get BackendUnavailableError after the store's timeout.
        """
        await self._parts.store.ready_to_write()
        return await self._parts.control.compact()
