"""Which hints follow from which change."""

from datetime import UTC, datetime, timedelta

import pytest

from deeper_tasks.backends import hints
from deeper_tasks.backends.protocol import Notification, QueueSettings, Retried, Topic
from deeper_tasks.domain.cron import Recurrence
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Insertion, JobSpec, NewJob
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, RunNow, Schedule, ScheduleEntry
from deeper_tasks.domain.schedule_run import RunOutcome, ScheduleRun
from deeper_tasks.domain.settlement import MovedJob
from deeper_tasks.domain.state import State

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ID = JobId("1")
SCHEDULES, CONTROL = Notification(topic=Topic.SCHEDULES), Notification(topic=Topic.CONTROL)
SCHEDULE = Schedule(
    name="nightly",
    recurrence=Recurrence(expression="@daily"),
    spec=JobSpec(task="shop.report", arguments="[[],{}]", queue="reports"),
)


def jobs(queue):
    return Notification(topic=Topic.JOBS, subject=queue)


def new(queue, **fields):
    return NewJob(request_id=ID, spec=JobSpec(task="shop.send", arguments="[[],{}]", queue=queue), **fields)


def test_new_jobs_wake_their_queues_once_and_delayed_ones_the_schedulers():
    delayed = [new("c", delay=SECOND), new("d", due=NOON + SECOND)]
    assert hints.after_insert([new("b"), new("a"), new("b")], now=NOON) == [jobs("a"), jobs("b")]
    assert hints.after_insert([new("a"), *delayed], now=NOON) == [jobs("a"), SCHEDULES]
    assert hints.after_insert([], now=NOON) == []


@pytest.mark.parametrize("due", [{"due": NOON}, {"due": NOON - SECOND}, {"delay": -SECOND}, {"delay": 0 * SECOND}])
def test_a_new_job_that_is_due_already_wakes_its_queue(due):
    assert hints.after_insert([new("a", **due)], now=NOON) == [jobs("a")]
    assert jobs("a") in hints.after_insert_elsewhere([new("a", **due)], now=NOON)


def test_a_new_job_that_another_clock_may_take_for_due_or_for_scheduled_wakes_both():
    for due in (NOON - SECOND, NOON, NOON + SECOND):
        assert hints.after_insert_elsewhere([new("a", due=due)], now=NOON) == [jobs("a"), SCHEDULES]
    later = [new("a", due=NOON + timedelta(hours=1)), new("a", delay=SECOND)]
    assert hints.after_insert_elsewhere(later, now=NOON) == [SCHEDULES]
    assert hints.after_insert_elsewhere([new("a")], now=NOON) == [jobs("a")]


def test_settled_jobs_that_are_pending_wake_their_queues_and_those_due_soon_the_schedulers():
    now, soon, late = timedelta(0), timedelta(milliseconds=999), timedelta(seconds=1)
    released = [("b", State.PENDING, now), ("a", State.PENDING, now), ("b", State.PENDING, now)]
    assert hints.after_settle(released) == [jobs("a"), jobs("b")]
    assert hints.after_settle([("a", State.RETRYABLE, soon), ("a", State.SCHEDULED, now)]) == [SCHEDULES]
    assert hints.after_settle([("a", State.RETRYABLE, late), ("a", State.FAILED, now)]) == []


def test_the_cancel_of_a_running_job_wakes_its_worker():
    waiting = MovedJob(id=ID, state=State.CANCELLED, task="shop.send", queue="a", attempt=0)
    running = MovedJob(id=ID, state=State.RUNNING, task="shop.send", queue="a", attempt=1)
    assert hints.after_cancel([waiting, running, running]) == [CONTROL]
    assert hints.after_cancel([waiting]) == []


def test_retried_jobs_wake_their_queues():
    assert hints.after_retry([Retried(id=ID, queue="b"), Retried(id=ID, queue="a")]) == [jobs("a"), jobs("b")]


@pytest.mark.parametrize(
    ("state", "expected"),
    [(State.PENDING, [jobs("a")]), (State.SCHEDULED, [SCHEDULES]), (State.RETRYABLE, [SCHEDULES])],
)
def test_a_rescheduled_job_wakes_its_queue_when_it_is_due_and_else_the_schedulers(state, expected):
    done = Rescheduled(id=ID, task="t", queue="a", attempt=0, before=State.SCHEDULED, state=state, scheduled_at=NOON)
    assert hints.after_reschedule(done) == expected


def test_a_paused_queue_wakes_its_workers_and_a_resumed_one_its_claims():
    assert hints.after_put_queue(QueueSettings(name="a", paused_at=NOON)) == [
        Notification(topic=Topic.CONTROL, subject="a")
    ]
    assert hints.after_put_queue(QueueSettings(name="a")) == [jobs("a")]


def test_an_entry_that_made_a_job_wakes_its_queue():
    fired = Fired(runs=(ScheduleRun(due=NOON, fired_at=NOON, outcome=RunOutcome.FIRED, job=ID),))
    held_back = Fired(runs=(ScheduleRun(due=NOON, fired_at=NOON, outcome=RunOutcome.SKIPPED_OVERLAP),))
    assert hints.after_fire(SCHEDULE, fired) == [jobs("reports")]
    assert hints.after_fire(SCHEDULE, held_back) == []


def test_an_entry_that_was_run_now_wakes_its_queue_unless_its_job_is_there_already():
    entry = ScheduleEntry(schedule=SCHEDULE, next_run=NOON)
    assert hints.after_run(RunNow(entry=entry, job=Insertion(id=ID, is_new=True))) == [jobs("reports")]
    assert hints.after_run(RunNow(entry=entry, job=Insertion(id=ID, is_new=False))) == []


def test_an_entry_with_another_next_run_wakes_the_schedulers():
    assert hints.after_new_next_run() == [SCHEDULES]


def test_a_call_that_found_nothing_to_change_wakes_nothing():
    assert hints.after_reschedule(None) == []
    assert hints.after_fire(SCHEDULE, None) == []
    assert hints.after_run(None) == []
