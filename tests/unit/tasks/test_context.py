"""The context of a run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest

from deeper_tasks.domain.job import ClaimedJob, JobOptions, Progress
from deeper_tasks.domain.text import LEFT_OUT
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


def make_job(news, *, options=None, job_id="id", attempt=2, max_attempts=5, inserted_at=NOW):
    claimed = ClaimedJob(
        id=job_id,
        token="token",
        task="shop.send",
        arguments="[[],{}]",
        queue="emails",
        priority=0,
        attempt=attempt,
        max_attempts=max_attempts,
        inserted_at=inserted_at,
        scheduled_at=NOW,
        claimed_at=NOW,
        expires_at=None,
        has_started=True,
        options=options,
    )
    return CurrentJob(claimed, MINUTE, news)


def test_tells_what_a_handler_may_know(job):
    assert (job.id, job.task, job.queue, job.attempt, job.max_attempts) == ("id", "shop.send", "emails", 2, 5)
    assert (job.tags, dict(job.meta), job.timeout, job.should_stop) == (("a",), {"key": 1}, MINUTE, False)
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


class Half:
    """A number that is none of Python's, as numpy has them."""

    def __float__(self):
        return 0.5


class Silent:
    def __float__(self):
        raise RuntimeError("no number")

    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class Shout(str):
    """A text that is not quite one."""

    __slots__ = ()

    def encode(self, *_):
        raise RuntimeError("no bytes")

    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize("done", [Half(), Fraction(1, 2), Decimal("0.5"), type("Sub", (float,), {})(0.5)])
@pytest.mark.parametrize("total", [None, 1, Fraction(1), Decimal(1), True])
def test_any_number_tells_progress_as_a_plain_float(job, news, done, total):
    job.progress(done, total=total)
    [(_, progress)] = news.told
    assert (progress.fraction, type(progress.fraction)) == (0.5, float)
    assert msgspec.json.decode(msgspec.json.encode(progress), type=Progress) == progress


@pytest.mark.parametrize("done", [50, -0.5])
def test_a_fraction_beyond_its_bounds_is_refused(job, done):
    with pytest.raises(ValueError, match="give its total="):
        job.progress(done)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity"), 10**400])
def test_a_number_without_end_is_refused_at_the_call(job, news, odd):
    for call in (lambda: job.progress(odd), lambda: job.progress(odd, total=2), lambda: job.progress(1, total=odd)):
        with pytest.raises(ValueError, match=r"progress: (done|total) must be a finite number, not"):
            call()
    assert news.told == []


@pytest.mark.parametrize("odd", ["0.5", b"0.5", None, 1j, [0.5], Silent()])
def test_what_is_no_number_is_refused_at_the_call_by_its_value(job, news, odd):
    with pytest.raises(TypeError, match="progress: done must be a number, not"):
        job.progress(odd)
    if odd is not None:
        with pytest.raises(TypeError, match="progress: total must be a number, not"):
            job.progress(1, total=odd)
    assert news.told == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (42, "42"),
        (["a", 1], "['a', 1]"),
        ("half \ud800", "half ?"),
        ("zero \0", "zero \0"),
        (b"bytes", "b'bytes'"),
        (Silent(), "<Silent without words>"),
        (Shout("loud"), "loud"),
        ("x" * 100_000, "x" * (64_000 - len(LEFT_OUT)) + LEFT_OUT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_message_and_a_line_become_text_that_can_be_stored(job, news, given, kept):
    job.progress(0.5, given)
    job.log(given)
    assert news.told == [("id", Progress(fraction=0.5, message=kept)), ("id", kept)]
    assert all(type(text) is str for text in (news.told[0][1].message, news.told[1][1]))


def test_no_message_is_an_empty_one(job, news):
    job.progress(0.5, None)
    assert news.told == [("id", Progress(fraction=0.5))]


def test_long_log_lines_are_cut(job, news):
    job.log("short")
    job.log("x" * 100_000)
    assert news.told[0] == ("id", "short")
    assert len(news.told[1][1]) == 64_000


class TestIdempotencyKey:
    ID = "01890a5d-ac96-774b-bcce-b302099a8057"

    def test_is_the_same_in_every_attempt(self, news):
        keys = {
            make_job(news, job_id=self.ID, attempt=attempt, max_attempts=attempt + 4).idempotency_key
            for attempt in (1, 2, 7)
        }
        assert keys == {f"dt-{self.ID}-6ca8b75937da8a28"}

    def test_fits_into_a_header(self, news):
        job = make_job(news, job_id=self.ID)
        for key in (job.idempotency_key, job.idempotency_key_for("a step of any length, é ✓ \ud800" * 100)):
            assert key.isascii()
            assert key.isprintable()
            assert len(key) == 56

    def test_differs_from_job_to_job(self, news):
        other = self.ID.replace("7", "6")
        assert make_job(news, job_id=self.ID).idempotency_key != make_job(news, job_id=other).idempotency_key

    def test_differs_where_two_stores_have_given_a_job_the_same_id(self, news):
        here = make_job(news, job_id=self.ID)
        there = make_job(news, job_id=self.ID, inserted_at=NOW + timedelta(microseconds=1))
        assert here.idempotency_key != there.idempotency_key
        assert here.idempotency_key_for("charge") != there.idempotency_key_for("charge")

    def test_does_not_depend_on_the_zone_in_which_a_store_tells_its_time(self, news):
        elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
        assert make_job(news).idempotency_key == make_job(news, inserted_at=elsewhere).idempotency_key

    def test_of_a_step_is_its_own_and_stable(self, news):
        first, second = make_job(news, attempt=1), make_job(news, attempt=2)
        keys = [first.idempotency_key, first.idempotency_key_for("charge"), first.idempotency_key_for("mail")]
        assert len(set(keys)) == 3
        assert second.idempotency_key_for("charge") == keys[1]

    def test_of_a_step_without_a_name_is_refused(self, job):
        with pytest.raises(ValueError, match=r"cannot be ''; give a text such as 'charge'"):
            job.idempotency_key_for("")
