"""The shapes of a job."""

from datetime import UTC, datetime

import msgspec
import pytest

from deeper_tasks.domain.job import HIGHEST_PRIORITY, LOWEST_PRIORITY, NORMAL_PRIORITY, ClaimedJob, JobOptions

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def claimed(*, attempt, max_attempts):
    return ClaimedJob(
        id="id",
        token="token",
        task="shop.send",
        arguments="[[],{}]",
        queue="default",
        priority=0,
        attempt=attempt,
        max_attempts=max_attempts,
        inserted_at=NOON,
        scheduled_at=NOON,
        claimed_at=NOON,
        expires_at=None,
        has_started=True,
    )


@pytest.mark.parametrize(("attempt", "is_last"), [(1, False), (2, False), (3, True), (4, True)])
def test_the_last_attempt_is_the_one_that_reaches_the_maximum(attempt, is_last):
    assert claimed(attempt=attempt, max_attempts=3).is_last_attempt is is_last


def test_lower_priorities_run_first():
    assert HIGHEST_PRIORITY < NORMAL_PRIORITY < LOWEST_PRIORITY


def test_options_that_say_nothing_are_an_empty_document():
    assert msgspec.json.encode(JobOptions()) == b"{}"
