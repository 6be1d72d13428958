"""The unknown task: what becomes of a job whose task this worker does not know, as during a deploy."""

from __future__ import annotations

from datetime import timedelta

from deeper_tasks.domain.job import ClaimedJob, ErrorReport
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.integrations.events import EventBus, TaskUnknown

_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(minutes=5)


class UnknownTask:
    """Gives jobs back without an attempt, for ever longer, until `grace` has passed since the first time."""

    def __init__(self, *, grace: timedelta, bus: EventBus) -> None:
        self._grace = grace
        self._bus = bus

    def settle(self, job: ClaimedJob) -> Settlement:
        """Return how such a job is settled: given back, or failed in the end."""
        unknown_for = timedelta(0) if job.unknown_since is None else job.claimed_at - job.unknown_since
        if unknown_for >= self._grace:
            error = ErrorReport(
                kind="TaskNotFoundError",
                message=f"no worker knew the task {job.task!r} for {self._grace}; register it, then retry the job",
            )
            return Settlement(id=job.id, token=job.token, end=End.FAIL, error=error)
        delay = min(max(unknown_for, _SHORTEST), _LONGEST)
        if self._bus.wants(TaskUnknown):
            self._bus.emit(TaskUnknown(job_id=job.id, task=job.task, queue=job.queue, attempt=job.attempt, delay=delay))
        return Settlement(
            id=job.id,
            token=job.token,
            end=End.RELEASE,
            delay=delay,
            is_task_unknown=True,
        )
