"""Another due time for a job that waits: which state, due time and expiry follow."""

from datetime import UTC, datetime, timedelta

import pytest

from deeper_tasks.domain.end_of_time import END_OF_TIME
from deeper_tasks.domain.rescheduling import NewDue, new_due
from deeper_tasks.domain.state import State

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def moved(before, due, *, scheduled_at=NOON, expires_at=None):
    return new_due(before, due=due, scheduled_at=scheduled_at, expires_at=expires_at, now=NOON)


@pytest.mark.parametrize(
    ("before", "due", "state", "scheduled_at"),
    [
        (State.SCHEDULED, HOUR, State.SCHEDULED, NOON + HOUR),
        (State.SCHEDULED, NOON + HOUR, State.SCHEDULED, NOON + HOUR),
        (State.SCHEDULED, NOON - HOUR, State.PENDING, NOON),
        (State.SCHEDULED, None, State.PENDING, NOON),
        (State.RETRYABLE, HOUR, State.RETRYABLE, NOON + HOUR),
        (State.RETRYABLE, None, State.PENDING, NOON),
        (State.PENDING, HOUR, State.SCHEDULED, NOON + HOUR),
        (State.PENDING, timedelta(0), State.PENDING, NOON),
        (State.PENDING, timedelta(days=2_950_000), State.SCHEDULED, END_OF_TIME),
    ],
)
def test_the_state_follows_from_the_due_time(before, due, state, scheduled_at):
    assert moved(before, due) == NewDue(state, scheduled_at, None)


def test_a_pending_job_that_is_called_to_run_keeps_its_place():
    assert moved(State.PENDING, None, expires_at=NOON) is None


def test_the_expiry_moves_with_the_due_time_and_a_call_to_run_leaves_it():
    due, expiry = NOON + 2 * HOUR, NOON + 3 * HOUR
    assert moved(State.SCHEDULED, HOUR, scheduled_at=due, expires_at=expiry).expires_at == expiry - HOUR
    assert moved(State.SCHEDULED, 4 * HOUR, scheduled_at=due, expires_at=expiry).expires_at == expiry + 2 * HOUR
    assert moved(State.SCHEDULED, None, scheduled_at=due, expires_at=expiry).expires_at == expiry


def test_an_expiry_before_the_due_time_is_not_brought_forward():
    change = moved(State.RETRYABLE, timedelta(0), scheduled_at=NOON + 2 * HOUR, expires_at=NOON + HOUR)
    assert change.expires_at == NOON + HOUR


def test_an_expiry_stays_where_the_old_due_time_cannot_be_read():
    assert moved(State.SCHEDULED, HOUR, scheduled_at=None, expires_at=NOON + HOUR).expires_at == NOON + HOUR
