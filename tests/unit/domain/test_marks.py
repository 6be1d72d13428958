"""The marks: what a claim tells of earlier attempts, in one place for all stores that ask."""

from datetime import timedelta

import pytest

from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.marks import NO_MARKS, Marks
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.testing.conformance.builders import HOUR, NOW

ALL = Marks(unknown_since=NOW, unfit_since=NOW, is_quarantined=True)


def settlement(**fields):
    return Settlement(id=JobId("1"), token=ClaimToken("t"), end=End.RELEASE, **fields)


def test_a_settlement_without_a_run_keeps_all_marks():
    assert ALL.after(settlement(), now=NOW + HOUR) == ALL


@pytest.mark.parametrize("ran_for", [timedelta(0), HOUR])
def test_a_run_wipes_them_out(ran_for):
    assert ALL.after(settlement(ran_for=ran_for), now=NOW) == NO_MARKS


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("is_task_unknown", Marks(unknown_since=NOW)),
        ("is_unfit", Marks(unfit_since=NOW)),
        ("is_process_lost", Marks(is_quarantined=True)),
    ],
)
def test_what_a_settlement_sets_stays_as_it_was_set_first(mark, expected):
    once = NO_MARKS.after(settlement(**{mark: True}), now=NOW)
    assert once == expected
    assert once.after(settlement(**{mark: True}), now=NOW + HOUR) == expected


def test_a_process_that_was_lost_with_its_handler_is_all_that_remains_of_a_run():
    assert ALL.after(settlement(ran_for=HOUR, is_process_lost=True), now=NOW) == Marks(is_quarantined=True)


def test_the_loss_of_a_worker_quarantines_what_may_be_its_cause():
    assert NO_MARKS.after_rescue(is_suspect=False) == NO_MARKS
    assert NO_MARKS.after_rescue(is_suspect=True) == Marks(is_quarantined=True)
    assert ALL.after_rescue(is_suspect=False) == ALL


def test_a_manual_retry_keeps_the_quarantine_alone():
    assert ALL.after_retry() == Marks(is_quarantined=True)


def test_a_claim_tells_every_mark():
    assert set(Marks.__struct_fields__) < set(ClaimedJob.__struct_fields__)
