"""The waiting of a job: what holds one that no worker has begun."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from deeper_tasks.domain.view import View


class WaitReason(StrEnum):
    """Why a job waits; of several reasons the first that holds."""

    CLAIMED = "claimed"
    """A worker has claimed it and has not begun it."""
    NOT_DUE = "not_due"
    QUEUE_PAUSED = "queue_paused"
    QUEUE_UNSERVED = "queue_unserved"
    """No live worker serves its queue."""
    TASK_UNKNOWN = "task_unknown"
    """No live worker that serves its queue knows its task."""
    SLOTS_BUSY = "slots_busy"
    """All slots for its queue run other jobs."""
    QUARANTINE = "quarantine"
    """An attempt was lost with its process, and no worker has had a place in quarantine for the next."""


class WaitingFor(View, frozen=True, kw_only=True):
    """The reason why a job waits; `message` says it in one line, `until` is when the wait ends, where that is known."""

    reason: WaitReason
    message: str
    until: datetime | None = None
