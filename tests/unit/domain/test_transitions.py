"""The kernel: what each act makes of a job, for all stores."""

from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.job import EXPIRED, ErrorReport
from deeper_tasks.domain.marks import Mark
from deeper_tasks.domain.rescheduling import state_when_due
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import (
    AWAITS_ITS_TIME,
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
from deeper_tasks.domain.transitions import (
    CANCEL_REQUEST,
    CANCELLATION,
    CLAIM,
    COMPLETION,
    EXPIRY,
    LARGEST_NUMBER,
    MANUAL_RETRY,
    PROMOTION,
    Change,
    after_cancel,
    after_delete,
    after_rescue,
    after_settlement,
    max_attempts_after_retry,
    starts_at_claim,
    state_of_new,
)

NO_DELAY, MINUTE = timedelta(0), timedelta(minutes=1)
MARKS = {"is_task_unknown": Mark.TASK_UNKNOWN, "is_unfit": Mark.UNFIT, "is_process_lost": Mark.QUARANTINED}


def settlement(end, **fields):
    return Settlement(id=JobId("1"), token=ClaimToken("t"), end=end, **fields)


SETTLEMENTS = [
    settlement(end, delay=delay, ran_for=ran_for, error=error, **dict(zip(MARKS, marks, strict=True)))
    for end, delay, ran_for, error, *marks in product(
        End,
        (NO_DELAY, MINUTE),
        (None, NO_DELAY, MINUTE),
        (None, ErrorReport(kind="ValueError", message="no")),
        *[(True, False)] * len(MARKS),
    )
]
RESCUES = [
    {
        "attempt": attempt,
        "max_attempts": most,
        "has_started": started,
        "is_cancel_requested": cancel,
        "is_trusted": trust,
    }
    for attempt, most, started, cancel, trust in product(range(-2, 5), range(-1, 4), *[(True, False)] * 3)
]
STEPS = [
    *(
        (State.RUNNING, after_settlement(one, is_cancel_requested=asked))
        for one in SETTLEMENTS
        for asked in (True, False)
    ),
    *((State.RUNNING, after_rescue(**facts)) for facts in RESCUES),
    *((before, after_cancel(before)) for before in WAITING | {State.RUNNING}),
    *((before, EXPIRY) for before in MAY_EXPIRE),
    *((before, PROMOTION) for before in AWAITS_ITS_TIME),
    *((before, MANUAL_RETRY) for before in MAY_RUN_AGAIN),
    *((before, after_delete(before)) for before in set(State) - {State.RUNNING}),
    (State.PENDING, CLAIM),
]
"""Every change that a store can be told to make, each with a state that the job may have before it."""


CAUSES = {
    End.COMPLETE: Cause.COMPLETE,
    End.RETRY: Cause.RETRY,
    End.SNOOZE: Cause.SNOOZE,
    End.RELEASE: Cause.RELEASE,
    End.FAIL: Cause.FAIL,
    End.DISCARD: Cause.DISCARD,
    End.CANCEL: Cause.CANCEL,
}


def _cause(one, *, asked, after):
    if asked and after is State.CANCELLED:
        return Cause.CANCEL
    return Cause.EXPIRE if one.end is End.FAIL and one.error == EXPIRED else CAUSES[one.end]


def steps_of_the_kernel():
    """Return each step that a function of the kernel makes: the state before, the cause, the state that follows."""
    settled = [*SETTLEMENTS, settlement(End.FAIL, error=EXPIRED)]
    changes = [
        (State.PENDING, Cause.CLAIM, CLAIM.state),
        *((before, Cause.DUE, PROMOTION.state) for before in AWAITS_ITS_TIME),
        *((before, Cause.EXPIRE, EXPIRY.state) for before in MAY_EXPIRE),
        *((before, Cause.MANUAL_RETRY, MANUAL_RETRY.state) for before in MAY_RUN_AGAIN),
        *((before, Cause.CANCEL, after_cancel(before).state) for before in WAITING | {State.RUNNING}),
        *((State.RUNNING, Cause.RESCUE, after_rescue(**facts).state) for facts in RESCUES),
        *(
            (before, Cause.RESCHEDULE, state_when_due(before, is_due=is_due))
            for before in MAY_BE_RESCHEDULED
            for is_due in (True, False)
        ),
    ]
    for one, asked in product(settled, (True, False)):
        after = after_settlement(one, is_cancel_requested=asked).state
        changes.append((State.RUNNING, _cause(one, asked=asked, after=after), after))
    return {(before, cause, after) for before, cause, after in changes if after is not before}


def test_the_table_has_just_the_steps_that_the_kernel_makes_each_with_its_cause():
    # No function unblocks a job yet: no job waits for others.
    unblocked = (State.BLOCKED, Cause.UNBLOCK, State.PENDING)
    assert {(step.before, step.cause, step.after) for step in TRANSITIONS} == steps_of_the_kernel() | {unblocked}


# what holds for every change


def test_every_change_leads_along_the_table_of_transitions():
    for before, change in STEPS:
        assert change.state in {None, before} or is_allowed(before, change.state)


def test_only_a_manual_retry_or_a_deletion_changes_a_job_that_has_ended():
    for before, change in STEPS:
        if before.is_terminal:
            assert change is MANUAL_RETRY or change.state is None


def test_a_change_is_an_end_when_the_job_was_live_and_is_not_any_more():
    for before, change in STEPS:
        is_over = change.state is None or change.state.is_terminal
        assert change.is_end == (is_over and not before.is_terminal)


def test_a_change_finishes_a_job_when_the_job_is_there_and_has_ended():
    for _, change in STEPS:
        assert change.finishes == (change.state is not None and change.state.is_terminal)


def test_an_end_frees_the_key_that_was_held_until_it_and_nothing_else_does():
    for before, change in STEPS:
        assert change.releases_key == change.finishes
        assert change.frees_key == (change.state is None and before is not State.COMPLETED)


@given(st.integers())
@settings(max_examples=20)
def test_the_number_of_attempts_is_never_negative_and_never_grows(attempt):
    for _, change in STEPS:
        assert max(attempt - 1, 0) <= change.attempt_after(attempt) <= max(attempt, 0)


def test_an_ended_job_is_not_put_off_and_gets_no_attempt_back_but_by_a_rescue():
    for _, change in STEPS:
        if change.is_end:
            assert not change.is_put_off
            assert change.attempts_taken_back == 0 or change.drops_token


def test_the_same_facts_give_the_very_same_change():
    for one, is_cancel_requested in product(SETTLEMENTS, (True, False)):
        change = after_settlement(one, is_cancel_requested=is_cancel_requested)
        assert after_settlement(one, is_cancel_requested=is_cancel_requested) is change


# the end of an attempt


@pytest.mark.parametrize(
    ("end", "delay", "state"),
    [
        (End.COMPLETE, NO_DELAY, State.COMPLETED),
        (End.RETRY, NO_DELAY, State.RETRYABLE),
        (End.RETRY, MINUTE, State.RETRYABLE),
        (End.SNOOZE, NO_DELAY, State.SCHEDULED),
        (End.SNOOZE, MINUTE, State.SCHEDULED),
        (End.RELEASE, NO_DELAY, State.PENDING),
        (End.RELEASE, MINUTE, State.SCHEDULED),
        (End.FAIL, MINUTE, State.FAILED),
        (End.DISCARD, MINUTE, State.DISCARDED),
        (End.CANCEL, MINUTE, State.CANCELLED),
    ],
)
def test_a_settlement_leads_to_its_state_and_with_a_cancel_request_to_cancelled(end, delay, state):
    one = settlement(end, delay=delay)
    assert after_settlement(one, is_cancel_requested=False).state is state
    asked = State.COMPLETED if end is End.COMPLETE else State.CANCELLED
    assert after_settlement(one, is_cancel_requested=True).state is asked


def test_a_settlement_answers_its_token_by_its_state():
    for one, is_cancel_requested in product(SETTLEMENTS, (True, False)):
        change = after_settlement(one, is_cancel_requested=is_cancel_requested)
        assert change.answers_token
        assert not change.drops_token
        assert change.keeps_error


def test_every_completion_is_the_one_constant():
    for ran_for, is_cancel_requested in product((None, MINUTE), (True, False)):
        one = settlement(End.COMPLETE, ran_for=ran_for)
        assert after_settlement(one, is_cancel_requested=is_cancel_requested) is COMPLETION
    assert COMPLETION.state is State.COMPLETED
    assert COMPLETION.is_end


@pytest.mark.parametrize("end", sorted(set(End) - {End.COMPLETE}))
@pytest.mark.parametrize("delay", [NO_DELAY, MINUTE])
@pytest.mark.parametrize("is_cancel_requested", [True, False])
def test_a_snooze_and_a_release_take_the_attempt_back_unless_the_job_is_cancelled(end, delay, is_cancel_requested):
    change = after_settlement(settlement(end, delay=delay), is_cancel_requested=is_cancel_requested)
    assert change.attempts_taken_back == int(end in {End.SNOOZE, End.RELEASE} and not is_cancel_requested)


@pytest.mark.parametrize(
    ("end", "delay", "is_put_off"),
    [
        (End.RETRY, NO_DELAY, True),
        (End.RETRY, MINUTE, True),
        (End.SNOOZE, NO_DELAY, True),
        (End.SNOOZE, MINUTE, True),
        (End.RELEASE, NO_DELAY, False),
        (End.RELEASE, MINUTE, True),
        (End.FAIL, MINUTE, False),
        (End.DISCARD, MINUTE, False),
        (End.CANCEL, MINUTE, False),
        (End.COMPLETE, MINUTE, False),
    ],
)
def test_only_a_release_without_a_delay_keeps_the_due_time_of_a_job_that_goes_on(end, delay, is_put_off):
    assert after_settlement(settlement(end, delay=delay), is_cancel_requested=False).is_put_off is is_put_off


@pytest.mark.parametrize(("field", "mark"), MARKS.items())
def test_a_settlement_leaves_its_mark(field, mark):
    change = after_settlement(settlement(End.RELEASE, **{field: True}), is_cancel_requested=False)
    assert change.mark is mark
    assert not change.clears_marks


@pytest.mark.parametrize("ran_for", [NO_DELAY, MINUTE])
def test_a_run_clears_what_was_marked_before(ran_for):
    assert after_settlement(settlement(End.RETRY, ran_for=ran_for), is_cancel_requested=False).clears_marks


# without the worker


@pytest.mark.parametrize(
    ("attempt", "has_started", "state", "counts"),
    [
        (2, True, State.PENDING, True),
        (1, True, State.PENDING, True),
        (1, False, State.PENDING, True),
        (2, False, State.PENDING, False),
        (3, True, State.DISCARDED, True),
        (3, False, State.PENDING, False),
        (4, True, State.DISCARDED, True),
    ],
)
def test_a_rescued_job_runs_again_unless_it_had_started_its_last_attempt(attempt, has_started, state, counts):
    facts = {"attempt": attempt, "max_attempts": 3, "has_started": has_started, "is_trusted": False}
    change = after_rescue(**facts, is_cancel_requested=False)
    assert change.state is state
    assert change.attempts_taken_back == int(not counts)
    assert after_rescue(**facts, is_cancel_requested=True).state is State.CANCELLED


def test_a_rescue_drops_the_token_and_keeps_the_due_time():
    for facts in RESCUES:
        change = after_rescue(**facts)
        assert change.drops_token
        assert not change.answers_token
        assert not change.is_put_off


def test_a_rescued_attempt_either_counts_with_an_error_or_is_given_back_without_one():
    for facts in RESCUES:
        change = after_rescue(**facts)
        assert change.keeps_error == (change.attempts_taken_back == 0)
        if facts["has_started"]:
            assert change.keeps_error


def test_a_rescue_quarantines_a_job_that_had_started_unless_its_task_is_trusted():
    for facts in RESCUES:
        is_suspect = facts["has_started"] and not facts["is_trusted"]
        assert after_rescue(**facts).mark is (Mark.QUARANTINED if is_suspect else None)


def test_an_expiry_fails_the_job_with_its_error():
    assert EXPIRY.state is State.FAILED
    assert EXPIRY.is_end
    assert EXPIRY.keeps_error


# by request


@pytest.mark.parametrize("before", sorted(WAITING))
def test_a_cancel_ends_a_job_that_waits(before):
    assert after_cancel(before) is CANCELLATION
    assert CANCELLATION.state is State.CANCELLED


def test_a_cancel_of_a_running_job_is_a_request():
    assert after_cancel(State.RUNNING) is CANCEL_REQUEST
    assert Change(state=State.RUNNING, requests_cancel=True) == CANCEL_REQUEST


@pytest.mark.parametrize("before", sorted(set(State) - {State.RUNNING}))
def test_the_deletion_of_a_job_that_has_not_ended_is_an_end(before):
    change = after_delete(before)
    assert change.state is None
    assert change.is_end is (before not in TERMINAL)


@pytest.mark.parametrize(
    ("attempt", "original", "most"),
    [
        (0, 5, 5),
        (5, 5, 10),
        (7, 1, 8),
        (-4, 3, 3),
        (2, -1, 3),
        (LARGEST_NUMBER, 5, LARGEST_NUMBER),
        (10**30, 10**30, LARGEST_NUMBER),
    ],
)
def test_a_manual_retry_allows_as_many_attempts_again(attempt, original, most):
    assert max_attempts_after_retry(attempt, original) == most


# new and claimed jobs


def test_a_new_job_is_pending_when_it_is_due_and_scheduled_before():
    assert state_of_new(is_due=True) is State.PENDING
    assert state_of_new(is_due=False) is State.SCHEDULED


@pytest.mark.parametrize(
    ("place", "is_quarantined", "starts"), [(0, False, True), (1, False, True), (2, False, False), (0, True, False)]
)
def test_a_claimed_job_starts_at_once_in_a_free_slot_but_never_in_quarantine(place, is_quarantined, starts):
    assert starts_at_claim(place, slots=2, is_quarantined=is_quarantined) is starts
