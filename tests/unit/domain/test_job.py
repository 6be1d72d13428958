"""The shapes of a job."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from deeper_tasks.domain.job import (
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    NORMAL_PRIORITY,
    AttemptError,
    ClaimedJob,
    ErrorReport,
    JobOptions,
    JobSpec,
    NewJob,
    Progress,
)

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


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({}, NOON),
        ({"delay": HOUR}, NOON + HOUR),
        ({"due": NOON + HOUR}, NOON + HOUR),
        ({"due": NOON - HOUR}, NOON),
        ({"due": NOON + HOUR, "delay": 2 * HOUR}, NOON + HOUR),
    ],
)
def test_a_new_job_is_due_when_it_says_and_never_before_it_is_inserted(fields, due):
    job = NewJob(request_id="id", spec=JobSpec(task="shop.send", arguments="[[],{}]", queue="default"), **fields)
    assert job.due_at(NOON) == due


def test_an_error_is_kept_with_its_attempt():
    report = ErrorReport(kind="ValueError", message="boom", traceback="Traceback")
    kept = AttemptError(attempt=2, at=NOON, kind="ValueError", message="boom", traceback="Traceback")
    assert report.kept(attempt=2, at=NOON) == kept


@pytest.mark.parametrize("fraction", [float("nan"), float("inf"), -0.1, 1.1])
def test_progress_is_a_fraction(fraction):
    with pytest.raises(ValueError, match="from 0 to 1"):
        Progress(fraction=fraction)
