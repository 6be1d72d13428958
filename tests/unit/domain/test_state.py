"""The table of transitions says all there is about a job's life."""

from deeper_tasks.domain.state import (
    AWAITS_ITS_TIME,
    DEAD_LETTER,
    MAY_BE_RESCHEDULED,
    MAY_EXPIRE,
    MAY_RUN_AGAIN,
    TERMINAL,
    TRANSITIONS,
    WAITING,
    Cause,
    State,
    is_allowed,
)


def test_every_state_is_waiting_running_or_terminal():
    assert WAITING | {State.RUNNING} | TERMINAL == set(State)
    assert not WAITING & TERMINAL


def test_dead_letters_are_terminal():
    assert DEAD_LETTER < TERMINAL
    assert all(state.is_terminal == (state in TERMINAL) for state in State)


def test_nothing_leaves_completed():
    assert not any(step.before is State.COMPLETED for step in TRANSITIONS)


def test_only_a_manual_retry_leaves_a_terminal_state():
    left = {(step.before, step.cause, step.after) for step in TRANSITIONS if step.before in TERMINAL}
    assert left == {(state, Cause.MANUAL_RETRY, State.PENDING) for state in TERMINAL - {State.COMPLETED}}


def test_only_a_claim_leads_to_running():
    assert [step.cause for step in TRANSITIONS if step.after is State.RUNNING] == [Cause.CLAIM]


def test_every_waiting_state_can_be_cancelled():
    cancelled = {step.before for step in TRANSITIONS if step.cause is Cause.CANCEL}
    assert cancelled == WAITING | {State.RUNNING}


def test_the_sets_of_states_are_those_that_the_table_leads_out_of():
    leaves = {cause: {step.before for step in TRANSITIONS if step.cause is cause} for cause in Cause}
    assert leaves[Cause.DUE] == AWAITS_ITS_TIME
    assert leaves[Cause.EXPIRE] - {State.RUNNING} == MAY_EXPIRE
    assert leaves[Cause.MANUAL_RETRY] == MAY_RUN_AGAIN
    assert leaves[Cause.RESCHEDULE] == MAY_BE_RESCHEDULED


def test_no_transition_stands_twice_in_the_table():
    assert len(set(TRANSITIONS)) == len(TRANSITIONS)


def test_every_cause_moves_something():
    assert {step.cause for step in TRANSITIONS} == set(Cause)


def test_every_state_but_blocked_can_be_reached_from_an_insert():
    reached = {State.PENDING, State.SCHEDULED}
    while more := {step.after for step in TRANSITIONS if step.before in reached} - reached:
        reached |= more
    assert reached == set(State) - {State.BLOCKED}


def test_a_step_that_is_not_in_the_table_is_not_allowed():
    assert is_allowed(State.PENDING, State.RUNNING)
    assert not is_allowed(State.PENDING, State.COMPLETED)
    assert not is_allowed(State.RUNNING, State.RUNNING)
