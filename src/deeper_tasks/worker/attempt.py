"""An attempt: one job in one of this worker's slots, and how it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum

from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.state import State
from deeper_tasks.tasks.context import CurrentJob


class Stop(StrEnum):
    """Why an attempt is told to stop."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LOST = "lost"


class Attempt:
    """
    A job that runs here.

    `interrupt` is how its executor stops the code: it is set while the code
    runs, and may be called more than once. `claimed` is the worker's monotonic
    time when the claim's answer came. `is_settled`: the store has its end
    already, and `state` is what that led to, None where it was refused.
    `may_be_settled`: the store was sent an end, and its answer was lost.
    """

    __slots__ = (
        "claimed",
        "context",
        "deadline",
        "interrupt",
        "is_overdue",
        "is_settled",
        "job",
        "may_be_settled",
        "reason",
        "state",
        "stop",
        "task",
    )

    def __init__(self, job: ClaimedJob, *, claimed: float) -> None:
        self.job = job
        self.context: CurrentJob | None = None
        self.deadline: float | None = None
        self.is_overdue = False
        self.claimed = claimed
        self.stop: Stop | None = None
        self.reason = ""
        self.interrupt: Callable[[], object] | None = None
        self.task: asyncio.Task[object] | None = None
        self.is_settled = False
        self.may_be_settled = False
        self.state: State | None = None

    def tell_to_stop(self, stop: Stop, reason: str = "") -> None:
        """Interrupt the code; the first reason counts, but a lost job is lost whatever came before."""
        if self.stop is None or stop is Stop.LOST:
            self.stop, self.reason = stop, reason
        if self.context is not None:
            self.context.cancelled = True
        if self.interrupt is not None:
            self.interrupt()
