"""The codes by which the stores with tables write the states of jobs, and what an attempt notes for the next."""

from __future__ import annotations

from enum import IntEnum

from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.domain.state import State

CODES = {
    State.SCHEDULED: 1,
    State.BLOCKED: 2,
    State.PENDING: 3,
    State.RUNNING: 4,
    State.RETRYABLE: 5,
    State.COMPLETED: 6,
    State.FAILED: 7,
    State.DISCARDED: 8,
    State.CANCELLED: 9,
}
"""Part of the schemas: a code never changes its meaning. From 6 on a job has ended."""

STATES = {code: state for state, code in CODES.items()}


class Mark(IntEnum):
    """The marks that the end of an attempt leaves for the attempts to come; one at most, as the statements read it."""

    TASK_UNKNOWN = 1
    UNFIT = 2
    QUARANTINED = 3


def mark_of(settlement: Settlement) -> Mark | None:
    """Return what a settlement notes of its job."""
    if settlement.is_task_unknown:
        return Mark.TASK_UNKNOWN
    if settlement.is_unfit:
        return Mark.UNFIT
    return Mark.QUARANTINED if settlement.is_process_lost else None
