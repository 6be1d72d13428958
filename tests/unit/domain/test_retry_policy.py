"""Whether a failed attempt is followed by another, and when."""

from datetime import timedelta

import pytest

from deeper_tasks.domain.retry_policy import RetryPolicy

SECOND = timedelta(seconds=1)
EVEN = 0.5


def delays(policy, attempts, **fields):
    return [policy.delay_after(attempt, ValueError("x"), random=EVEN, **fields) for attempt in attempts]


def test_delays_grow_by_the_factor():
    policy = RetryPolicy(delay=SECOND, factor=3.0)
    assert delays(policy, (1, 2, 3, 4)) == [SECOND, 3 * SECOND, 9 * SECOND, 27 * SECOND]


def test_a_factor_of_one_keeps_the_delay():
    assert delays(RetryPolicy(delay=SECOND, factor=1), (1, 50)) == [SECOND, SECOND]


@pytest.mark.parametrize(
    "field",
    [{"factor": 0.5}, {"factor": float("nan")}, {"jitter": 1.5}, {"jitter": -0.1}, {"delay": -SECOND}],
)
def test_a_policy_whose_delays_would_shrink_below_the_first_or_be_negative_is_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        RetryPolicy(**field)


def test_no_delay_is_longer_than_the_longest_but_for_jitter():
    policy = RetryPolicy(delay=SECOND, max_delay=10 * SECOND)
    assert delays(policy, (4, 5, 6)) == [8 * SECOND, 10 * SECOND, 10 * SECOND]
    assert policy.delay_after(9, ValueError(), random=0.999_999) < 11 * SECOND


@pytest.mark.parametrize("factor", [2, 2.0, 1e6, 10**30])
def test_any_number_of_attempts_has_a_delay(factor):
    policy = RetryPolicy(delay=SECOND, factor=factor)
    assert delays(policy, (10_000,)) == [policy.max_delay]


def test_without_a_first_delay_there_is_none_later():
    assert delays(RetryPolicy(delay=timedelta(0), factor=10.0), (1, 10_000)) == [timedelta(0)] * 2


def test_a_job_s_own_delay_takes_the_place_of_the_policy_s():
    policy = RetryPolicy(delay=SECOND, max_delay=60 * SECOND)
    assert delays(policy, (1, 2, 3), base=20 * SECOND) == [20 * SECOND, 40 * SECOND, 60 * SECOND]


@pytest.mark.parametrize(
    ("first", "longest", "expected"),
    [
        (7200, 3600, [7200, 7200, 7200]),
        (3600, 3600, [3600, 3600, 3600]),
        (2000, 3600, [2000, 3600, 3600]),
        (15, 0, [15, 15, 15]),
        (7200, 86_400, [7200, 14_400, 28_800]),
        (0, 60, [0, 0, 0]),
    ],
)
def test_the_first_delay_is_what_was_asked_and_the_longest_bounds_growth_alone(first, longest, expected):
    policy = RetryPolicy(delay=first * SECOND, max_delay=longest * SECOND)
    assert [delay.total_seconds() for delay in delays(policy, (1, 2, 3))] == expected
    other = RetryPolicy(delay=SECOND, max_delay=SECOND)
    by_job = delays(other, (1, 2, 3), base=first * SECOND, longest=longest * SECOND)
    assert [delay.total_seconds() for delay in by_job] == expected


def test_jitter_spreads_the_first_and_the_longest_delay_alike():
    policy = RetryPolicy(delay=100 * SECOND, max_delay=300 * SECOND, jitter=0.5)
    assert [policy.delay_after(n, ValueError(), random=0.0) for n in (1, 2, 3)] == [
        50 * SECOND,
        100 * SECOND,
        150 * SECOND,
    ]
    assert policy.delay_after(9, ValueError(), random=0.75) == 375 * SECOND


@pytest.mark.parametrize("policy", [{"delay": timedelta.max}, {"max_delay": timedelta.max, "factor": 1e300}])
def test_no_delay_is_longer_than_can_be_stored(policy):
    assert RetryPolicy(jitter=1, **policy).delay_after(9, ValueError(), random=0.9) == timedelta(days=36_500)


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 80), (0.25, 90), (0.5, 100), (0.75, 110)])
def test_jitter_spreads_the_delay_evenly_around_it(random, seconds):
    policy = RetryPolicy(delay=100 * SECOND, jitter=0.2)
    assert policy.delay_after(1, ValueError(), random=random) == seconds * SECOND


def test_without_jitter_the_delay_is_exact():
    policy = RetryPolicy(delay=SECOND, jitter=0)
    assert {policy.delay_after(1, ValueError(), random=random) for random in (0.0, 0.3, 0.99)} == {SECOND}


def test_only_ordinary_exceptions_are_retried_by_default():
    policy = RetryPolicy()
    assert policy.is_retryable(ValueError())
    assert not policy.is_retryable(KeyboardInterrupt())
    assert policy.delay_after(1, SystemExit(), random=EVEN) is None


def test_an_exception_that_is_not_listed_is_not_retried():
    policy = RetryPolicy(retry_on=(OSError,))
    assert policy.is_retryable(ConnectionError())
    assert policy.delay_after(1, ValueError(), random=EVEN) is None


def test_what_fails_at_once_wins_over_what_is_retried():
    policy = RetryPolicy(retry_on=(OSError,), fail_on=(FileNotFoundError,))
    assert policy.is_retryable(PermissionError())
    assert policy.delay_after(1, FileNotFoundError(), random=EVEN) is None


def test_a_function_takes_the_place_of_the_calculation():
    policy = RetryPolicy(function=lambda attempt, error: attempt * 10 + len(str(error)))
    assert policy.delay_after(2, ValueError("abc"), random=0.9, base=SECOND) == 23 * SECOND


def test_a_function_may_return_a_timedelta_or_refuse():
    policy = RetryPolicy(function=lambda attempt, _: SECOND if attempt == 1 else None)
    assert delays(policy, (1, 2)) == [SECOND, None]


def test_a_function_is_not_asked_about_what_fails_at_once():
    policy = RetryPolicy(fail_on=(ValueError,), function=lambda *_: pytest.fail("asked"))
    assert delays(policy, (1,)) == [None]


def test_a_function_cannot_return_a_negative_delay():
    with pytest.raises(ValueError, match="negative"):
        delays(RetryPolicy(function=lambda *_: -1), (1,))


def test_of_a_group_each_exception_counts():
    policy = RetryPolicy(retry_on=(ConnectionError,), fail_on=(ConnectionResetError,))
    refused, reset = ConnectionRefusedError(), ConnectionResetError()
    inner = ExceptionGroup("inner", [refused])
    assert policy.is_retryable(ExceptionGroup("outer", [inner, refused]))
    assert not policy.is_retryable(ExceptionGroup("outer", [inner, reset]))
    assert not policy.is_retryable(ExceptionGroup("outer", [inner, ValueError()]))
    assert not RetryPolicy(fail_on=(ExceptionGroup,)).is_retryable(inner)
    assert RetryPolicy(retry_on=(ExceptionGroup,)).is_retryable(ExceptionGroup("any", [ValueError()]))
