"""Control: the role of doing what an operator asks for, over ids or a filter."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from msgspec import Struct

from deeper_tasks.backends.protocol.values import JobFilter, QueueSettings
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.settlement import MovedJob


class Retried(Struct, frozen=True, kw_only=True):
    """A job that an operator's retry made pending, and the queue that has it now."""

    id: JobId
    queue: str


class Control(Protocol):
    """A store whose jobs and queues an operator can change."""

    async def cancel(self, target: JobFilter, *, reason: str, now: datetime | None = None) -> list[MovedJob]:
        """
        Cancel up to `max_batch` of the jobs that `target` selects, leaving ended ones alone.

        A job that waits ends at once. For a running one the request is stored, and
        `beat` hands it to the worker until the job ends: it is in the answer as
        `running`. A job that was asked before is in the answer only if `target.ids`
        names it; so a call repeated until it answers fewer than `max_batch` is done.
        """

    async def retry(self, target: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        """
        Make up to `max_batch` failed, discarded or cancelled jobs of those selected pending again.

        Attempts, errors and quarantine are kept, the maximum grows to the attempts
        used plus the original maximum; expiry, cancel request, and since when workers
        could not run it are cleared. A job takes its
        unique key again if it is free, and otherwise runs without.
        """

    async def reschedule(
        self, job_id: JobId, *, due: datetime | timedelta | None, now: datetime | None = None
    ) -> Rescheduled | None:
        """
        Give a scheduled, retryable or pending job another due time: a moment, or so long after now.

        A moment that has passed is now. A job that is due is pending; of those that are due
        later a retryable one stays so, and the others are scheduled. The expiry moves by the
        same shift (`moved_expiry`); all else stays.

        `due` None ends the delay of a job: it is due now, and its expiry stays. A pending job stays as it is, and
        keeps its position.

        None, and nothing done: there is no such job, or it runs, is blocked or has ended.
        """

    async def delete(self, target: JobFilter) -> list[JobId]:
        """
        Delete up to `max_batch` of the jobs that `target` selects, never a running one.

        A deleted job holds no unique key any more, but for one held for a period by a job that has completed
        (`after_delete`).
        """

    async def put_queue(self, settings: QueueSettings) -> None:
        """
        Set what holds for a queue. A pause is read inside `claim`.

        A pause of a queue that is paused already changes nothing: the queue stays paused since the first pause.
        """
