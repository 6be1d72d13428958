"""The time of a test: what is due happens at its moment, in order, and none of it takes real time."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from deeper_tasks import Retry, Snooze, current_job
from deeper_tasks.domain.state import State
from deeper_tasks.errors import JobNotFoundError
from deeper_tasks.integrations.events import CleanupRan, JobExpired, JobRetried, ScheduleFired
from deeper_tasks.testing import ClockError, RunEnd, StuckJobError, TooManyRunsError, use_memory

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


async def status_of(kit, task_id):
    return (await kit.manager.get_task_status(task_id)).status


@pytest.fixture
def note(kit):
    """Return a task that notes when it ran."""
    noted = []

    @kit.manager.task(name="shop.note")
    async def note(word: str = ""):
        noted.append((kit.now - start, word))

    start = kit.now
    note.noted = noted
    return note


async def test_nothing_runs_before_the_test_says_so(kit, note):
    await note.enqueue("now")
    assert note.noted == []
    assert await kit.advance() is not None
    assert note.noted == [(timedelta(0), "now")]


async def test_what_is_scheduled_runs_at_its_moment_and_in_its_order(kit, note):
    await note.with_options(delay_seconds=7200).enqueue("later")
    await kit.manager.schedule_task(note, args=["sooner"], scheduled_at=HOUR)
    await note.with_options(delay_seconds=3 * 3600).enqueue("too late")
    summary = await kit.advance(hours=2)
    assert note.noted == [(HOUR, "sooner"), (2 * HOUR, "later")]
    assert (summary.completed, len(summary)) == (2, 2)


async def test_time_passes_by_as_much_as_was_said(kit):
    start = kit.now
    await kit.advance(timedelta(days=1), hours=1, minutes=1, seconds=1.5)
    assert kit.now - start == timedelta(days=1, hours=1, minutes=1, seconds=1.5)
    await kit.advance(until=start + timedelta(days=2))
    assert kit.now == start + timedelta(days=2)


async def test_a_kit_starts_at_the_time_it_is_given(manager):
    with use_memory(manager, start=datetime(2031, 5, 14, tzinfo=UTC)) as kit:
        await kit.advance(days=1)
        assert kit.now == datetime(2031, 5, 15, tzinfo=UTC)


async def test_a_retry_comes_at_the_end_of_its_backoff_without_jitter(kit):
    moments, start = [], kit.now

    @kit.manager.task(name="shop.flaky", retry_delay_seconds=60, max_attempts=4)
    async def flaky():
        moments.append(kit.now - start)
        raise OSError("down")

    task_id = await flaky.enqueue()
    summary = await kit.advance(hours=1)
    assert moments == [timedelta(0), MINUTE, 3 * MINUTE, 7 * MINUTE]
    assert [run.end for run in summary.runs] == [RunEnd.RETRYABLE] * 3 + [RunEnd.DISCARDED]
    assert str(summary) == "3 retryable, 1 discarded"
    assert summary.ids() == summary.ids("discarded") == [task_id]
    assert summary.runs[0].error == "OSError: down"


async def test_the_jitter_of_retries_is_the_test_s_to_choose(kit):
    @kit.manager.task(name="shop.flaky", retry_delay_seconds=60)
    async def flaky():
        raise OSError("down")

    kit.clock.chance = 0.0
    task_id = await flaky.enqueue()
    await kit.drain()
    assert (await kit.manager.get_task_status(task_id)).scheduled_at - kit.now == 0.9 * MINUTE


async def test_a_snoozed_job_and_one_that_asks_for_a_retry_come_again(kit):
    @kit.manager.task(name="shop.moody")
    async def moody(how: str):
        if kit.now - start < HOUR:
            raise Snooze(HOUR) if how == "snooze" else Retry(after=HOUR)

    start = kit.now
    await moody.enqueue("snooze")
    await moody.enqueue("retry")
    summary = await kit.advance(hours=1)
    assert (summary.snoozed, summary.retryable, summary.completed) == (1, 1, 2)


async def test_a_recurring_task_fires_at_each_of_its_times(kit, note):
    fired = []
    kit.manager.subscribe(fired.append, ScheduleFired)
    await kit.manager.schedule_recurring_task("tick", note, cron_expression="@every 10m")
    await kit.advance(hours=1)
    gaps = [later[0] - earlier[0] for earlier, later in zip(note.noted, note.noted[1:], strict=False)]
    assert len(note.noted) == 6
    assert set(gaps) == {10 * MINUTE}
    assert len(fired) == 6


async def test_a_recurring_task_held_by_its_overlap_policy_waits_for_the_job_before(kit, note):
    await kit.manager.schedule_recurring_task("tick", note, cron_expression="@every 10m", overlap="skip")
    await kit.manager.queues.pause("default")
    await kit.advance(hours=1)
    assert len(await kit.all_enqueued(note)) == 1


async def test_a_job_that_is_not_started_in_time_expires(kit, note):
    expired = []
    kit.manager.subscribe(expired.append, JobExpired)
    await kit.manager.queues.pause("default")
    task_id = await note.with_options(expires_in_seconds=60).enqueue()
    await kit.advance(minutes=1)
    assert await status_of(kit, task_id) is State.FAILED
    assert [event.job_id for event in expired] == [task_id]
    await kit.manager.queues.resume("default")
    await kit.advance(hours=1)
    assert note.noted == []


async def test_a_retry_that_comes_too_late_expires(kit):
    @kit.manager.task(name="shop.flaky", retry_delay_seconds=600)
    async def flaky():
        raise OSError("down")

    task_id = await flaky.with_options(expires_in_seconds=60).enqueue()
    summary = await kit.advance(hours=1)
    assert len(summary) == 1
    assert await status_of(kit, task_id) is State.FAILED


async def test_ended_jobs_go_after_their_retention(kit, note):
    cleaned = []
    kit.manager.subscribe(cleaned.append, CleanupRan)
    task_id = await note.enqueue()
    await kit.advance(days=6)
    assert await status_of(kit, task_id) is State.COMPLETED
    await kit.advance(days=1)
    with pytest.raises(JobNotFoundError):
        await kit.manager.get_task_status(task_id)
    assert [event.deleted for event in cleaned] == [1]


async def test_more_jobs_than_one_batch_run_and_go(kit, note):
    await kit.manager.enqueue_many([note.with_options(delay_seconds=60).call(str(number)) for number in range(1200)])
    assert (await kit.advance(minutes=1)).completed == 1200
    await kit.advance(days=7)
    assert await kit.all_enqueued() == []


# jobs that take time


async def test_a_job_that_takes_time_takes_the_clock_along(kit, note):
    @kit.manager.task(name="shop.slow")
    async def slow():
        await kit.sleep(1800)
        await asyncio.gather(kit.sleep(timedelta(minutes=10)), kit.sleep(600), kit.sleep(60))
        await note.enqueue("done")

    await slow.enqueue()
    began = time.monotonic()
    summary = await kit.drain()
    assert summary.completed == 2
    assert note.noted == [(40 * MINUTE, "done")]
    assert time.monotonic() - began < 60, "time passed for real"


async def test_a_job_is_cut_off_at_its_timeout_and_tried_again(kit):
    durations = [60, 1]

    @kit.manager.task(name="shop.slow", timeout_seconds=30, retry_delay_seconds=60)
    async def slow():
        await kit.sleep(durations.pop(0))
        return "done"

    start = kit.now
    retried = []
    kit.manager.subscribe(retried.append, JobRetried)
    task_id = await slow.enqueue()
    summary = await kit.advance(minutes=5)
    assert [run.started_at - start for run in summary.runs] == [timedelta(0), timedelta(seconds=90)]
    assert [(event.error.kind, event.ran_for) for event in retried] == [("TimeoutError", timedelta(seconds=30))]
    status = await kit.manager.get_task_status(task_id)
    assert (status.attempted_at - start, status.finished_at - start) == (
        timedelta(seconds=90),
        timedelta(seconds=91),
    )
    assert await kit.manager.result(task_id) == "done"


def test_a_plain_function_is_told_that_its_time_is_over(kit):
    seen = []

    @kit.manager.task(name="shop.slow", timeout_seconds=30, max_attempts=1)
    def slow():
        while not current_job().timed_out:
            kit.sync.sleep(20)
        seen.append(kit.now - start)
        raise OSError("given up")

    start = kit.now
    kit.manager.sync.enqueue_task(slow)
    assert kit.sync.drain().discarded == 1
    assert seen == [timedelta(seconds=40)]


@pytest.mark.parametrize(("late_result", "end"), [("fail", "discarded"), ("accept", "completed")])
def test_a_plain_function_that_returns_after_its_timeout_ends_as_in_a_worker(kit, late_result, end):
    @kit.manager.task(name="shop.slow", timeout_seconds=30, max_attempts=1, late_result=late_result)
    def slow():
        kit.sync.sleep(40)

    kit.manager.sync.enqueue_task(slow)
    summary = kit.sync.drain()
    assert getattr(summary, end) == 1
    error = "TimeoutError: ran 40 s, 10 s longer than its timeout of 30 s, in test_time.py:"
    assert late_result == "accept" or summary.runs[0].error.startswith(error)


async def test_asyncio_s_own_sleep_can_be_the_kit_s(kit, monkeypatch):
    monkeypatch.setattr(asyncio, "sleep", kit.sleep)

    @kit.manager.task(name="shop.slow")
    async def slow():
        await asyncio.sleep(1800)

    start = kit.now
    await slow.enqueue()
    assert (await kit.drain()).completed == 1
    assert kit.now - start == HOUR / 2
    await asyncio.sleep(0)
    assert kit.now - start == HOUR / 2


async def test_the_sleep_of_a_plain_function_can_be_the_kit_s(kit, monkeypatch):
    monkeypatch.setattr(time, "sleep", kit.sync.sleep)

    @kit.manager.task(name="shop.patient")
    def patient():
        time.sleep(3600)

    start = kit.now
    await patient.enqueue()
    assert str(await kit.drain()) == "1 completed"
    assert kit.now - start == HOUR


async def test_a_job_that_never_ends_is_an_error_that_names_it(manager):
    @manager.task(name="shop.stuck")
    async def stuck():
        await asyncio.Event().wait()

    with use_memory(manager, patience=0.05) as kit:
        task_id = await stuck.enqueue()
        with pytest.raises(StuckJobError, match=rf"shop.stuck \({task_id}\) has not ended within 50 ms"):
            await kit.drain()
        assert await status_of(kit, task_id) is State.PENDING


async def test_a_call_that_is_cancelled_gives_its_job_back(kit):
    has_begun = asyncio.Event()

    @kit.manager.task(name="shop.stuck")
    async def stuck():
        has_begun.set()
        await asyncio.Event().wait()

    task_id = await stuck.enqueue()
    draining = asyncio.create_task(kit.drain())
    await has_begun.wait()
    draining.cancel()
    await asyncio.wait([draining])
    assert draining.cancelled()
    status = await kit.manager.get_task_status(task_id)
    assert (status.status, status.attempts) == (State.PENDING, 0)


async def test_a_job_that_runs_can_be_cancelled(kit):
    has_begun = asyncio.Event()

    @kit.manager.task(name="shop.stuck")
    async def stuck():
        has_begun.set()
        await asyncio.Event().wait()

    task_id = await stuck.enqueue()
    draining = asyncio.create_task(kit.drain())
    await has_begun.wait()
    await kit.manager.cancel_task(task_id)
    assert (await draining).cancelled == 1
    assert await status_of(kit, task_id) is State.CANCELLED


async def test_progress_and_log_lines_are_kept(kit):
    @kit.manager.task(name="shop.talking")
    async def talking():
        current_job().progress(0.5, "half")
        current_job().log("a line")

    task_id = await talking.enqueue()
    await kit.drain()
    status = await kit.manager.get_task_status(task_id)
    assert (status.progress.message, status.log) == ("half", ("a line",))


# bad input


async def test_a_chain_without_end_is_an_error(kit, note):
    await kit.manager.schedule_recurring_task("tick", note, cron_expression="@every 1s")
    with pytest.raises(TooManyRunsError, match=r"50 attempts have run and more are pending \(shop.note is next\)"):
        await kit.advance(hours=1, limit=50)


async def test_the_first_error_can_be_raised_at_its_moment(kit):
    @kit.manager.task(name="shop.broken")
    async def broken():
        raise KeyError("gone")

    start = kit.now
    task_id = await broken.with_options(delay_seconds=60).enqueue()
    with pytest.raises(KeyError, match="gone"):
        await kit.advance(hours=1, raise_errors=True)
    assert kit.now - start == MINUTE
    assert await status_of(kit, task_id) is State.RETRYABLE


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"hours": -1}, "does not go back"),
        ({"until": datetime(2001, 1, 1, tzinfo=UTC)}, "does not go back"),
        ({"until": datetime(2101, 1, 1)}, "needs a time zone"),  # noqa: DTZ001 - that is what is refused
        ({"until": datetime(2101, 1, 1, tzinfo=UTC), "hours": 1}, "not both"),
    ],
)
async def test_a_time_that_cannot_come_is_refused(kit, call, words):
    with pytest.raises(ClockError, match=words):
        await kit.advance(**call)


def test_a_start_without_a_zone_is_refused(manager):
    with (
        pytest.raises(ClockError, match="has no time zone"),
        use_memory(manager, start=datetime(2031, 1, 1)),  # noqa: DTZ001 - the same
    ):
        pass


async def test_others_can_follow_the_clock(kit, note):
    seen = []
    kit.clock.on_move(seen.append)
    start = kit.now
    await note.with_options(delay_seconds=60).enqueue()
    await kit.advance(hours=1)
    assert seen == [start + MINUTE, start + HOUR]


@pytest.mark.parametrize(
    ("cron", "options", "takes", "span"),
    [
        ("*/2 * * * * *", {}, 5, timedelta(seconds=30)),
        ("*/2 * * * * *", {"unique": "until_done"}, 5, timedelta(seconds=30)),
        ("*/2 * * * * *", {}, 2, timedelta(seconds=30)),
        ("* * * * *", {}, 90, HOUR),
    ],
)
async def test_a_recurring_task_slower_than_its_period_does_not_run_past_the_end(kit, cron, options, takes, span):
    @kit.manager.task(name="shop.slow", cron=cron, **options)
    async def slow():
        await kit.sleep(takes)

    await kit.manager.declare_recurring_tasks()
    target = kit.now + span
    summary = await kit.advance(span, limit=500)
    assert len(summary) > 1
    assert target <= kit.now < target + timedelta(seconds=2 * takes)
    before = len(summary)
    assert len(await kit.advance(seconds=takes, limit=500)) <= before


async def test_what_becomes_due_while_the_last_job_takes_the_clock_past_the_end_waits(kit, note):
    @kit.manager.task(name="shop.long")
    async def long():
        await kit.sleep(600)
        await note.enqueue("follows")

    await long.enqueue()
    await note.with_options(delay_seconds=59).enqueue("in time")
    await note.with_options(delay_seconds=60).enqueue("at the end")
    await note.with_options(delay_seconds=61).enqueue("too late")
    assert str(await kit.advance(minutes=1)) == "3 completed"
    assert note.noted == [(10 * MINUTE, "in time"), (10 * MINUTE, "at the end")]
    assert str(await kit.advance()) == "2 completed"
    assert [word for _, word in note.noted[2:]] == ["too late", "follows"]


async def test_a_job_that_goes_on_enqueueing_itself_ends_with_the_time(kit):
    @kit.manager.task(name="shop.poll")
    async def poll():
        await kit.sleep(7)
        await poll.enqueue()

    start = kit.now
    await poll.enqueue()
    assert len(await kit.advance(minutes=1)) == 9
    assert kit.now == start + timedelta(seconds=63)


async def test_recurring_tasks_can_be_left_out(kit, note):
    await kit.manager.schedule_recurring_task("tick", note, cron_expression="@every 10m", args=["tick"])
    await note.with_options(delay_seconds=7200).enqueue("once")
    await kit.advance(hours=3, recurring=False)
    assert note.noted == [(2 * HOUR, "once")]
    await kit.advance(minutes=10)
    assert {word for _, word in note.noted[1:]} == {"tick"}


async def test_too_many_runs_name_the_task_with_most_and_the_way_to_leave_recurring_ones_out(kit, note):
    await kit.manager.schedule_recurring_task("tick", note, cron_expression="@every 1s")
    with pytest.raises(TooManyRunsError, match=r"50 of shop\.note; .*advance\(…, recurring=False\)"):
        await kit.advance(hours=1, limit=50)


async def test_a_job_that_is_rescheduled_runs_at_its_new_moment_and_one_that_is_called_at_once(kit, note):
    sooner, later = [await note.with_options(delay_seconds=3600).enqueue(word) for word in ("sooner", "later")]
    await kit.manager.reschedule_task(later, timedelta(hours=2))
    await kit.manager.run_task_now(sooner)
    await kit.drain()
    assert note.noted == [(timedelta(0), "sooner")]
    await kit.advance(hours=3)
    assert note.noted == [(timedelta(0), "sooner"), (2 * HOUR, "later")]
