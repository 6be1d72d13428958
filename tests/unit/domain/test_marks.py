"""The marks: what a claim tells of earlier attempts, in one place for all stores that ask."""

from datetime import timedelta

import pytest

from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.marks import NO_MARKS, Marks
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.transitions import after_rescue, after_settlement
from deeper_tasks.testing.conformance.builders import HOUR, NOW

ALL = Marks(unknown_since=NOW, unfit_since=NOW, is_quarantined=True)


def settlement(**fields):
    return Settlement(id=JobId("1"), token=ClaimToken("t"), end=End.RELEASE, **fields)


def after(marks, settlement, *, now):
    change = after_settlement(settlement, is_cancel_requested=False)
    return marks.changed(clears=change.clears_marks, mark=change.mark, now=now)


def rescued(marks, *, is_trusted):
    change = after_rescue(attempt=1, max_attempts=3, has_started=True, is_cancel_requested=False, is_trusted=is_trusted)
    return marks.changed(clears=change.clears_marks, mark=change.mark, now=NOW)


def test_a_settlement_without_a_run_keeps_all_marks():
    assert after(ALL, settlement(), now=NOW + HOUR) == ALL


@pytest.mark.parametrize("ran_for", [timedelta(0), HOUR])
def test_a_run_wipes_them_out(ran_for):
    assert after(ALL, settlement(ran_for=ran_for), now=NOW) == NO_MARKS


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("is_task_unknown", Marks(unknown_since=NOW)),
        ("is_unfit", Marks(unfit_since=NOW)),
        ("is_process_lost", Marks(is_quarantined=True)),
    ],
)
def test_what_a_settlement_sets_stays_as_it_was_set_first(mark, expected):
    once = after(NO_MARKS, settlement(**{mark: True}), now=NOW)
    assert once == expected
    assert after(once, settlement(**{mark: True}), now=NOW + HOUR) == expected


def test_a_process_that_was_lost_with_its_handler_is_all_that_remains_of_a_run():
    assert after(ALL, settlement(ran_for=HOUR, is_process_lost=True), now=NOW) == Marks(is_quarantined=True)


def test_the_loss_of_a_worker_quarantines_what_may_be_its_cause():
    assert rescued(NO_MARKS, is_trusted=True) == NO_MARKS
    assert rescued(NO_MARKS, is_trusted=False) == Marks(is_quarantined=True)
    assert rescued(ALL, is_trusted=True) == ALL


def test_a_manual_retry_keeps_the_quarantine_alone():
    assert ALL.after_retry() == Marks(is_quarantined=True)


def test_a_claim_tells_every_mark():
    assert set(Marks.__struct_fields__) < set(ClaimedJob.__struct_fields__)
