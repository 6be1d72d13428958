"""The codes by which the stores with tables write the states of jobs."""

from __future__ import annotations

from deeper_tasks.domain.marks import Mark as Mark  # noqa: PLC0414
from deeper_tasks.domain.marks import mark_of as mark_of  # noqa: PLC0414
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
