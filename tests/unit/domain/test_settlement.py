"""The state that the end of an attempt leads to."""

from datetime import timedelta

import pytest

from deeper_tasks.domain.settlement import STATE_AFTER, UNCOUNTED, End, state_after, state_after_rescue
from deeper_tasks.domain.state import State

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


def test_a_rescued_job_runs_again_while_it_has_attempts():
    assert state_after_rescue(has_attempts_left=True, is_cancel_requested=False) is State.PENDING
    assert state_after_rescue(has_attempts_left=False, is_cancel_requested=False) is State.DISCARDED


@pytest.mark.parametrize("has_attempts_left", [True, False])
def test_a_rescued_job_that_was_to_be_cancelled_is_cancelled(has_attempts_left):
    assert state_after_rescue(has_attempts_left=has_attempts_left, is_cancel_requested=True) is State.CANCELLED
