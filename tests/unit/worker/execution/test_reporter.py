"""The reporter: news of running jobs are gathered from all threads and written in batches, when they can be."""

import asyncio
import threading

import pytest

from deeper_tasks.backends.availability import Availability
from deeper_tasks.domain.job import MAX_KEPT_LOG_LINES, Progress
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.errors import BackendError
from deeper_tasks.integrations.events import EventBus
from deeper_tasks.testing.conformance.builders import join, look, put_running, rescue_all
from deeper_tasks.worker.execution.reporter import Reporter
from deeper_tasks.worker.redaction import Redaction
from deeper_tasks.worker.store_access import StoreAccess


def make_reporter(backend, clock, *, token_of):
    store = StoreAccess(backend, Availability(bus=EventBus(), monotonic=clock.monotonic), clock)
    return Reporter(store, token_of=token_of, redaction=Redaction(Redactor()))


class Desk:
    def __init__(self, backend, clock):
        self.backend = backend
        self.tokens = {}
        self.reporter = make_reporter(backend, clock, token_of=self.tokens.get)
        self.running = asyncio.create_task(self.reporter.run())


@pytest.fixture
async def desk(flaky, clock):
    desk = Desk(flaky, clock)
    await clock.settle()
    yield desk
    desk.running.cancel()
    await asyncio.gather(desk.running, return_exceptions=True)


@pytest.fixture
async def jobs(flaky, desk):
    node = await join(flaky)
    jobs = [await put_running(flaky, node) for _ in range(3)]
    desk.tokens |= {job.id: job.token for job in jobs}
    return jobs


async def test_the_first_news_are_written_at_once(desk, jobs, flaky, clock):
    desk.reporter.progress(jobs[0].id, Progress(fraction=0.5, message="half"))
    await clock.settle()
    assert (await look(flaky, jobs[0].id)).progress == Progress(fraction=0.5, message="half")


async def test_what_follows_closely_is_written_together_and_the_last_progress_counts(desk, jobs, flaky, clock):
    desk.reporter.progress(jobs[0].id, Progress(fraction=0.1))
    await clock.settle()
    for fraction in (0.2, 0.3, 0.4):
        desk.reporter.progress(jobs[0].id, Progress(fraction=fraction))
        desk.reporter.log(jobs[0].id, f"at {fraction}")
    desk.reporter.log(jobs[1].id, "another job")
    await clock.settle()
    assert len(flaky.called("report")) == 1
    await clock.advance(0.1)
    (_, second) = flaky.called("report")
    assert len(second[0][0]) == 2
    job = await look(flaky, jobs[0].id)
    assert (job.progress.fraction, job.log) == (0.4, ("at 0.2", "at 0.3", "at 0.4"))
    assert (await look(flaky, jobs[1].id)).log == ("another job",)


async def test_news_may_come_from_any_thread(desk, jobs, flaky, clock, wait_until):
    def report(number):
        for line in range(20):
            desk.reporter.log(jobs[number].id, f"{number}: {line}")

    threads = [threading.Thread(target=report, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    await clock.settle()
    await clock.advance(1)
    await clock.advance(1)
    for number, job in enumerate(jobs):
        assert (await look(flaky, job.id)).log == tuple(f"{number}: {line}" for line in range(20))


async def test_news_of_one_job_are_written_when_it_is_about_to_end(desk, jobs, flaky, clock):
    desk.reporter.progress(jobs[0].id, Progress(fraction=0.1))
    await clock.settle()
    desk.reporter.progress(jobs[0].id, Progress(fraction=1.0))
    desk.reporter.progress(jobs[1].id, Progress(fraction=0.3))
    await clock.settle()
    assert desk.reporter.has_news(jobs[0].id)
    await desk.reporter.flush(jobs[0].id)
    assert not desk.reporter.has_news(jobs[0].id)
    assert (await look(flaky, jobs[0].id)).progress.fraction == 1.0
    assert (await look(flaky, jobs[1].id)).progress is None


async def test_a_job_that_is_about_to_end_waits_for_news_of_it_that_are_being_written(desk, jobs, flaky, clock):
    gate = flaky.hold("report")
    desk.reporter.log(jobs[0].id, "last words")
    await clock.settle()
    assert desk.reporter.has_news(jobs[0].id)
    assert not desk.reporter.has_news(jobs[1].id)
    flushing = asyncio.create_task(desk.reporter.flush(jobs[0].id))
    await clock.settle()
    assert not flushing.done()
    gate.end()
    await asyncio.wait_for(flushing, 10)
    assert not desk.reporter.has_news(jobs[0].id)
    assert (await look(flaky, jobs[0].id)).log == ("last words",)


async def test_without_news_nothing_is_written(desk, jobs, flaky, clock):
    await desk.reporter.flush(jobs[0].id)
    await clock.advance(10)
    assert flaky.called("report") == []


async def test_news_of_a_job_that_does_not_run_here_are_dropped(desk, jobs, flaky, clock):
    desk.tokens.clear()
    desk.reporter.log(jobs[0].id, "too late")
    await clock.settle()
    assert flaky.called("report") == []


async def test_news_that_cannot_be_written_are_dropped_and_hold_nobody_up(desk, jobs, flaky, clock):
    flaky.fail("report")
    desk.reporter.log(jobs[0].id, "lost")
    await clock.settle()
    desk.reporter.log(jobs[0].id, "lost too")
    await clock.settle()
    await desk.reporter.flush(jobs[0].id)
    flaky.restore()
    await clock.advance(1)
    desk.reporter.log(jobs[0].id, "kept")
    await clock.settle()
    await clock.advance(1)
    assert (await look(flaky, jobs[0].id)).log == ("kept",)


async def test_a_start_is_marked_only_for_a_job_that_is_still_ours(desk, flaky):
    node = await join(flaky)
    waiting = await put_running(flaky, node, is_started=False)
    assert await desk.reporter.mark_started(waiting)
    assert (await look(flaky, waiting.id)).attempted_at is not None
    await rescue_all(flaky.backend, node)
    assert not await desk.reporter.mark_started(waiting)


@pytest.fixture
def refuse(flaky):
    """Have the store refuse news of a job for what they say, by this error."""

    def refuse(job, error):
        report = flaky.backend.report

        async def report_if_it_may(reports, *, now=None):
            if any(news.id == job.id for news in reports):
                raise error
            return await report(reports, now=now)

        flaky.backend.report = report_if_it_may

    return refuse


@pytest.mark.parametrize("error", [TypeError("no JSON"), BackendError("invalid byte sequence")])
async def test_news_that_the_store_refuses_are_dropped_alone_and_the_reporter_goes_on(desk, jobs, clock, refuse, error):
    refuse(jobs[1], error)
    desk.reporter.log(jobs[0].id, "first")
    await clock.settle()
    for job in jobs:
        desk.reporter.log(job.id, "news")
    await clock.advance(1)
    desk.reporter.log(jobs[1].id, "its last words")
    await desk.reporter.flush(jobs[1].id)
    desk.reporter.log(jobs[2].id, "more")
    await clock.advance(1)
    assert [(await look(desk.backend, job.id)).log for job in jobs] == [("first", "news"), (), ("news", "more")]


async def test_of_many_lines_the_newest_are_kept_and_no_more_are_held(desk, jobs, flaky, clock):
    desk.reporter.log(jobs[0].id, "first")
    await clock.settle()
    for number in range(MAX_KEPT_LOG_LINES * 3):
        desk.reporter.log(jobs[0].id, str(number))
    await clock.advance(1)
    assert len(flaky.called("report")[-1].args[0][0].lines) == MAX_KEPT_LOG_LINES
    assert (await look(flaky, jobs[0].id)).log[-1] == str(MAX_KEPT_LOG_LINES * 3 - 1)


async def test_a_thread_that_outlives_its_worker_s_loop_has_nobody_to_tell_and_is_not_harmed(memory, clock):
    reporter, failures = await asyncio.to_thread(lambda: asyncio.run(_reporter_of(memory, clock))), []

    def report():
        try:
            reporter.log("id", "late")
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=report)
    thread.start()
    thread.join()
    assert failures == []


async def _reporter_of(memory, clock):
    return make_reporter(memory, clock, token_of=lambda _: None)
