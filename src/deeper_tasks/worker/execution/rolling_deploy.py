"""The rolling deploy: releases jobs that only other code than this worker's can run."""

from __future__ import annotations

from datetime import datetime, timedelta

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.job import ClaimedJob, ErrorReport
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.integrations.events import ArgumentsUnfit, EventBus, TaskUnknown

_SHORTEST = timedelta(seconds=1)
_LONGEST_UNKNOWN = timedelta(minutes=5)
_LONGEST_UNFIT = timedelta(minutes=1)
_LONGEST_REASON = 1_500


class RollingDeploy:
    """
    Releases such a job without an attempt, each time with a longer delay, and fails it after a grace period.

    The period begins when the first worker releases the job for the same reason, by
    the store's clock. A period of zero fails the job at once.
    """

    def __init__(self, *, unknown_grace: timedelta, unfit_grace: timedelta, bus: EventBus) -> None:
        self._unknown_grace = unknown_grace
        self._unfit_grace = unfit_grace
        self._bus = bus

    def unknown(self, job: ClaimedJob) -> Settlement:
        """Return the settlement of a job whose task this worker does not know."""
        waited = _since(job.unknown_since, job)
        if waited >= self._unknown_grace:
            grace = self._unknown_grace
            message = f"no worker knew the task {job.task!r} for {readable(grace)}; register it, then retry the job"
            return _failed(job, "TaskNotFoundError", message)
        delay = min(max(waited, _SHORTEST), _LONGEST_UNKNOWN)
        if self._bus.wants(TaskUnknown):
            self._bus.emit(TaskUnknown(job_id=job.id, task=job.task, queue=job.queue, attempt=job.attempt, delay=delay))
        return Settlement(id=job.id, token=job.token, end=End.RELEASE, delay=delay, is_task_unknown=True)

    def unfit(self, job: ClaimedJob, reason: str) -> Settlement:
        """Return the settlement of a job whose arguments do not fit this worker's code; `reason` shows no values."""
        waited = _since(job.unfit_since, job)
        reason = reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "…"
        if waited >= self._unfit_grace:
            tried = (
                f", and for {readable(self._unfit_grace)} no worker had code that they fit" if self._unfit_grace else ""
            )
            message = f"{reason}{tried}; deploy code that takes these arguments, then retry the job"
            return _failed(job, "InvalidArgumentsError", message)
        delay = min(max(waited, _SHORTEST), _LONGEST_UNFIT)
        if self._bus.wants(ArgumentsUnfit):
            self._bus.emit(
                ArgumentsUnfit(
                    job_id=job.id, task=job.task, queue=job.queue, attempt=job.attempt, delay=delay, reason=reason
                )
            )
        return Settlement(id=job.id, token=job.token, end=End.RELEASE, delay=delay, is_unfit=True)


def _since(first: datetime | None, job: ClaimedJob) -> timedelta:
    return timedelta(0) if first is None else job.claimed_at - first


def _failed(job: ClaimedJob, kind: str, message: str) -> Settlement:
    return Settlement(id=job.id, token=job.token, end=End.FAIL, error=ErrorReport(kind=kind, message=message))
