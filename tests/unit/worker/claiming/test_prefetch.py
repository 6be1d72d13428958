"""The pace: how many jobs may be claimed ahead follows how long they took."""

import pytest

from deeper_tasks.worker.claiming.prefetch import Prefetch


def test_nothing_is_claimed_ahead_while_nothing_is_known():
    assert Prefetch(slots=10, horizon=0.05).ahead == 0


def test_short_jobs_travel_in_hundreds():
    pace = Prefetch(slots=10, horizon=0.05)
    pace.observe(0.001)
    assert pace.ahead == 500


def test_no_more_than_two_batches_are_claimed_ahead():
    pace = Prefetch(slots=1000, horizon=10)
    pace.observe(0)
    assert pace.ahead == 1000


@pytest.mark.parametrize(("seconds", "ahead"), [(0.01, 10), (0.05, 2), (0.1, 1), (1, 0), (3600, 0)])
def test_as_many_are_claimed_ahead_as_will_start_within_the_horizon(seconds, ahead):
    pace = Prefetch(slots=2, horizon=0.05)
    pace.observe(seconds)
    assert pace.ahead == ahead


def test_a_longer_job_counts_at_once_and_shorter_ones_slowly():
    pace = Prefetch(slots=10, horizon=0.05)
    pace.observe(0.001)
    pace.observe(1)
    assert pace.ahead == 0
    for _ in range(10):
        pace.observe(0.001)
    assert pace.ahead < 5
    for _ in range(100):
        pace.observe(0.001)
    assert pace.ahead > 100


def test_without_a_horizon_nothing_is_claimed_ahead():
    pace = Prefetch(slots=10, horizon=0)
    pace.observe(0.0001)
    assert pace.ahead == 0
