"""The codes of states in the tables of a database."""

from __future__ import annotations

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
"""The codes are part of the schemas, so a code never changes its meaning. From 6 on a job has ended."""

STATES = {code: state for state, code in CODES.items()}
