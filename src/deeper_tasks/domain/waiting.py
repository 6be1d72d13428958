"""The waiting of a job: the reason why no worker has begun it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from deeper_tasks.domain.view import View


class WaitReason(StrEnum):
    """The reason why a job waits. If several apply, the first of these counts."""

    CLAIMED = "claimed"
    """A worker has claimed the job and has not begun it."""
    NOT_DUE = "not_due"
    QUEUE_PAUSED = "queue_paused"
    QUEUE_UNSERVED = "queue_unserved"
    """No live worker serves the job's queue."""
    TASK_UNKNOWN = "task_unknown"
    """No live worker that serves the queue knows the job's task."""
    SLOTS_BUSY = "slots_busy"
    """All slots for the queue run other jobs."""
    QUARANTINE = "quarantine"
    """An attempt was lost with its process, and no worker has had room in quarantine for the next one."""


class WaitingFor(View, frozen=True, kw_only=True):
    """The reason why a job waits. `message` says it in one line; `until` is the end of the wait, if that is known."""

    reason: WaitReason
    message: str
    until: datetime | None = None
