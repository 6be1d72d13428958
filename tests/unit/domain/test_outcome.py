"""What a handler raises or returns to decide the end of its attempt."""

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from deeper_tasks.domain.outcome import Cancel, Fail, Outcome, Retry, Snooze, as_delay

SECOND = timedelta(seconds=1)


def test_a_delay_is_a_timedelta_or_a_number_of_seconds():
    assert as_delay(SECOND) is SECOND
    assert as_delay(1) == as_delay(1.0) == SECOND
    assert as_delay(0) == timedelta(0)
    assert as_delay(Decimal("1.5")) == as_delay(Fraction(3, 2)) == 1.5 * SECOND


@pytest.mark.parametrize("value", [-1, -0.001, timedelta(microseconds=-1), float("nan"), math.inf, -1e300])
def test_a_delay_is_neither_negative_nor_no_number_nor_without_end(value):
    with pytest.raises(ValueError, match=r"a delay cannot be"):
        as_delay(value)


@pytest.mark.parametrize("value", [timedelta.max, timedelta(days=36_501), 1e18, 1e300, 10**400])
def test_a_delay_beyond_what_can_be_stored_is_the_longest_however_it_is_given(value):
    assert as_delay(value) == Retry(after=value).after == Snooze(value).delay == timedelta(days=36_500)


def test_a_retry_follows_the_policy_unless_it_says_when():
    assert Retry().after is None
    assert Retry(after=2).after == 2 * SECOND
    assert Retry("rate limited", after=SECOND).after == SECOND
    assert str(Retry("rate limited")) == "rate limited"


def test_a_snooze_says_for_how_long():
    assert Snooze(1.5).delay == 1.5 * SECOND
    assert Snooze(SECOND).delay == SECOND


@pytest.mark.parametrize("outcome", [Fail, Cancel])
def test_an_end_without_a_retry_gives_its_reason(outcome):
    assert outcome("gone").reason == str(outcome("gone")) == "gone"


@pytest.mark.parametrize("outcome", [Retry(), Snooze(1), Fail("x"), Cancel("x")])
def test_every_outcome_can_be_raised(outcome):
    with pytest.raises(Outcome):
        raise outcome


@pytest.mark.parametrize("make", [lambda: Retry(after=-1), lambda: Snooze(-1)])
def test_an_outcome_with_a_negative_delay_is_refused_where_it_is_made(make):
    with pytest.raises(ValueError, match="negative"):
        make()
