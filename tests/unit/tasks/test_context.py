"""The context of a run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from deeper_tasks.domain.job import ClaimedJob, JobOptions, Progress
from deeper_tasks.errors import JobError
from deeper_tasks.tasks.context import CurrentJob, current_job, enter_job, leave_job, running_job

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class News:
    def __init__(self):
        self.told = []

    def progress(self, job_id, progress):
        self.told.append((job_id, progress))

    def log(self, job_id, line):
        self.told.append((job_id, line))


@pytest.fixture
def news():
    return News()


@pytest.fixture
def job(news):
    return make_job(news, options=JobOptions(tags=("a",), meta={"key": 1}))


def make_job(news, *, options=None):
    claimed = ClaimedJob(
        id="id",
        token="token",
        task="shop.send",
        arguments="[[],{}]",
        queue="emails",
        priority=0,
        attempt=2,
        max_attempts=5,
        inserted_at=NOW,
        scheduled_at=NOW,
        claimed_at=NOW,
        expires_at=None,
        has_started=True,
        options=options,
    )
    return CurrentJob(claimed, timeout=MINUTE, reporter=news)


def test_tells_what_a_handler_may_know(job):
    assert (job.id, job.task, job.queue, job.attempt, job.max_attempts) == ("id", "shop.send", "emails", 2, 5)
    assert (job.tags, dict(job.meta), job.timeout, job.cancelled) == (("a",), {"key": 1}, MINUTE, False)
    assert timedelta(0) < job.deadline - datetime.now(UTC) <= MINUTE
    assert repr(job) == "<CurrentJob shop.send id, attempt 2 of 5>"


def test_a_job_without_options_has_no_tags_and_no_meta(news):
    job = make_job(news)
    assert (job.tags, dict(job.meta)) == ((), {})


def test_meta_cannot_be_changed(job):
    with pytest.raises(TypeError):
        job.meta["key"] = 2


def test_outside_a_job_there_is_none():
    with pytest.raises(JobError, match="not called by a worker"):
        current_job()


async def test_the_current_job_reaches_threads_and_tasks_inside(job):
    with running_job(job):
        assert current_job() is job
        assert await asyncio.to_thread(current_job) is job
        assert await asyncio.create_task(asyncio.to_thread(current_job)) is job
    with pytest.raises(JobError):
        current_job()


def test_leaving_gives_back_what_was_there(job, news):
    outer = enter_job(job)
    inner = enter_job(make_job(news))
    leave_job(inner)
    assert current_job() is job
    leave_job(outer)


@pytest.mark.parametrize(
    ("done", "total", "fraction"),
    [
        (0, None, 0.0),
        (0.25, None, 0.25),
        (1 + 1e-9, None, 1.0),
        (12, 48, 0.25),
        (50, 48, 1.0),
        (0, 0, 1.0),
        (-1, 5, 0.0),
    ],
)
def test_progress_is_a_fraction_or_a_count_of_a_total(job, news, done, total, fraction):
    job.progress(done, "so far", total=total)
    assert news.told == [("id", Progress(fraction=fraction, message="so far"))]


@pytest.mark.parametrize("done", [50, -0.5, float("nan")])
def test_a_fraction_beyond_its_bounds_is_refused(job, done):
    with pytest.raises(ValueError, match="give its total="):
        job.progress(done)


def test_long_log_lines_are_cut(job, news):
    job.log("short")
    job.log("x" * 5000)
    assert news.told[0] == ("id", "short")
    assert len(news.told[1][1]) == 2000
