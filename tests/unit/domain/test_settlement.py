"""The state that the end of an attempt leads to."""

from datetime import timedelta
from pathlib import Path

import pytest

from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.settlement import (
    STATE_AFTER,
    UNCOUNTED,
    End,
    is_spared_by_rescue,
    state_after,
    state_after_rescue,
    worker_lost,
)
from deeper_tasks.domain.state import State

_DOCS = Path(__file__).parents[3] / "docs"
NO_DELAY = timedelta(0)
MINUTE = timedelta(minutes=1)


def test_every_end_has_a_state():
    assert set(STATE_AFTER) == set(End)


@pytest.mark.parametrize("end", list(End))
def test_without_a_cancel_request_an_end_leads_to_its_state(end):
    assert state_after(end, delay=NO_DELAY, is_cancel_requested=False) is STATE_AFTER[end]


@pytest.mark.parametrize("end", list(End))
@pytest.mark.parametrize("delay", [NO_DELAY, MINUTE])
def test_with_a_cancel_request_every_end_but_a_completion_is_cancelled(end, delay):
    state = State.COMPLETED if end is End.COMPLETE else State.CANCELLED
    assert state_after(end, delay=delay, is_cancel_requested=True) is state


def test_a_release_with_a_delay_is_scheduled():
    assert state_after(End.RELEASE, delay=MINUTE, is_cancel_requested=False) is State.SCHEDULED


@pytest.mark.parametrize("end", sorted(set(End) - {End.RELEASE}))
def test_a_delay_changes_the_state_of_no_other_end(end):
    assert state_after(end, delay=MINUTE, is_cancel_requested=False) is STATE_AFTER[end]


def test_only_a_snooze_and_a_release_take_the_attempt_back():
    assert {End.SNOOZE, End.RELEASE} == UNCOUNTED


@pytest.mark.parametrize(
    ("attempt", "has_started", "state", "is_spared"),
    [
        (2, True, State.PENDING, False),
        (1, True, State.PENDING, False),
        (1, False, State.PENDING, False),
        (2, False, State.PENDING, True),
        (3, True, State.DISCARDED, False),
        (3, False, State.PENDING, True),
        (4, True, State.DISCARDED, False),
    ],
)
def test_a_rescued_job_runs_again_unless_it_had_started_its_last_attempt(attempt, has_started, state, is_spared):
    place = {"attempt": attempt, "max_attempts": 3, "has_started": has_started}
    assert state_after_rescue(**place, is_cancel_requested=False) is state
    assert is_spared_by_rescue(**place) is is_spared


@pytest.mark.parametrize("attempt", [1, 3])
@pytest.mark.parametrize("has_started", [True, False])
def test_a_rescued_job_that_was_to_be_cancelled_is_cancelled(attempt, has_started):
    state = state_after_rescue(attempt=attempt, max_attempts=3, has_started=has_started, is_cancel_requested=True)
    assert state is State.CANCELLED


def test_the_error_of_a_lost_job_does_not_say_that_its_code_ran_and_the_docs_quote_it():
    error = worker_lost(NodeId("…"))
    assert error.message.endswith("held this job for a run; whether the job's code had begun is not known")
    assert f"\n{error.kind}: {error.message}\n" in (_DOCS / "explanation" / "delivery.md").read_text("utf-8")
