"""What the logs say, and at which level."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from logging import DEBUG, ERROR, INFO, WARNING

import msgspec
import pytest

from deeper_tasks.domain.job import ErrorReport
from deeper_tasks.domain.schedule_run import RunOutcome
from deeper_tasks.domain.settlement import ARGUMENTS_UNFIT, TASK_UNKNOWN, End
from deeper_tasks.domain.state import State
from deeper_tasks.integrations import events
from deeper_tasks.integrations.events import Event, EventBus, JobEvent
from deeper_tasks.integrations.log_formatters import JsonFormatter
from deeper_tasks.integrations.logs import LogSubscriber

SECOND = timedelta(seconds=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ERROR_REPORT = ErrorReport(kind="ValueError", message="no\nnumber", traceback="Traceback …")
JOB = {"job_id": "id", "task": "shop.send", "queue": "emails", "attempt": 2}
NODE = {"node": "n1", "queues": {"default": 10}}

LEVELS = [
    (events.JobEnqueued(**JOB), INFO, "job enqueued: shop.send id"),
    (events.JobEnqueued(**JOB, is_new=False), INFO, "job already enqueued: shop.send id"),
    (events.JobEnqueued(**JOB, scheduled_at=NOW), INFO, "job enqueued for 2026-01-01T00:00:00+00:00: shop.send id"),
    (events.JobEnqueued(**JOB, delay=SECOND), INFO, "job enqueued, due in 1 s: shop.send id"),
    (events.JobStarted(**JOB, wait=SECOND), INFO, "job started attempt 2, 1 s after it was due: shop.send id"),
    (
        events.JobQuarantined(**JOB, is_alone=False),
        INFO,
        "job runs in quarantine after its worker died, in a process of its own: shop.send id",
    ),
    (
        events.JobQuarantined(**JOB, is_alone=True),
        INFO,
        "job runs in quarantine after its worker died, with no other job beside it: shop.send id",
    ),
    (events.JobCompleted(**JOB, ran_for=SECOND), INFO, "job completed in 1 s: shop.send id"),
    (events.JobSnoozed(**JOB, delay=SECOND), INFO, "job snoozed for 1 s: shop.send id"),
    (events.JobReleased(**JOB, reason="shutdown"), INFO, "job released (shutdown): shop.send id"),
    (
        events.JobReleased(**JOB, reason=TASK_UNKNOWN),
        DEBUG,
        "job released (its task is unknown here): shop.send id",
    ),
    (
        events.JobReleased(**JOB, reason=ARGUMENTS_UNFIT),
        DEBUG,
        "job released (its arguments do not fit its task here): shop.send id",
    ),
    (events.JobCancelled(**JOB, reason="asked"), INFO, "job cancelled, asked: shop.send id"),
    (events.JobCancelled(job_id="id"), INFO, "job cancelled: id"),
    (
        events.JobRescheduled(**JOB, state=State.RETRYABLE, scheduled_at=NOW),
        INFO,
        "job rescheduled for 2026-01-01T00:00:00+00:00: shop.send id",
    ),
    (
        events.JobRescheduled(**JOB, state=State.PENDING, scheduled_at=NOW),
        INFO,
        "job rescheduled to run now: shop.send id",
    ),
    (events.QueuePaused(queue="emails"), INFO, "queue 'emails' was paused"),
    (events.QueueResumed(queue="emails"), INFO, "queue 'emails' was resumed"),
    (events.ScheduleFired(name="nightly", jobs=("a", "b")), INFO, "recurring task 'nightly' fired: a, b"),
    (
        events.ScheduleFired(name="nightly", jobs=()),
        INFO,
        "recurring task 'nightly' was due and enqueued no job",
    ),
    (
        events.ScheduleFired(name="nightly", jobs=(), held_back=(RunOutcome.SKIPPED_UNIQUE,)),
        INFO,
        "recurring task 'nightly' was due and enqueued no job: another job holds its unique key",
    ),
    (
        events.ScheduleFired(
            name="nightly", jobs=(), held_back=(RunOutcome.SKIPPED_MISSED, RunOutcome.SKIPPED_OVERLAP)
        ),
        INFO,
        "recurring task 'nightly' was due and enqueued no job: the run was missed, its last job has not ended",
    ),
    (events.SchedulePaused(name="nightly"), INFO, "recurring task 'nightly' was paused"),
    (
        events.ScheduleResumed(name="nightly", next_run=NOW),
        INFO,
        "recurring task 'nightly' was resumed, next due at 2026-01-01T00:00:00+00:00",
    ),
    (
        events.StoreMade(place="/srv/tasks.db", url="sqlite:///tasks.db"),
        INFO,
        "a new, empty store was made at /srv/tasks.db",
    ),
    (
        events.StoreMade(place="/srv/tasks.db", url="sqlite:///tasks.db", is_elsewhere=True),
        WARNING,
        (
            "a new, empty store was made at /srv/tasks.db: the path in its URL ('sqlite:///tasks.db') begins at the "
            "working folder, where this program's code is not; if workers look elsewhere, write the absolute path"
        ),
    ),
    (
        events.StoreMade(place="/srv/tasks.db", url="sqlite:///tasks.db", is_worker=True),
        WARNING,
        (
            "a new, empty store was made at /srv/tasks.db: if it should hold jobs, stop this worker and correct its "
            "URL ('sqlite:///tasks.db'; a relative path begins at the worker's working folder)"
        ),
    ),
    (
        events.StoreMade(place="postgresql://host/db", url="postgresql://host/db", is_worker=True),
        WARNING,
        (
            "a new, empty store was made at postgresql://host/db: "
            "if it should hold jobs, stop this worker and correct its URL ('postgresql://host/db')"
        ),
    ),
    (events.ScheduleRemoved(name="nightly"), INFO, "recurring task 'nightly' was removed"),
    (
        events.ScheduleRemoved(name="nightly", was_declared=True),
        INFO,
        "recurring task 'nightly' was removed, because the code no longer declares it",
    ),
    (
        events.ScheduleOrphaned(name="nightly", task="shop.report"),
        WARNING,
        (
            "recurring task 'nightly' was declared by code, and its task 'shop.report' is not known here; "
            "if it is gone for good, remove it with cancel_recurring_task"
        ),
    ),
    (events.CleanupRan(deleted=3, took=SECOND), INFO, "clean-up deleted 3 ended jobs in 1 s"),
    (events.CleanupRan(deleted=1, took=SECOND), INFO, "clean-up deleted 1 ended job in 1 s"),
    (events.CleanupRan(deleted=0, took=SECOND, is_manual=True), INFO, "manual clean-up deleted 0 ended jobs in 1 s"),
    (events.WorkerStarted(**NODE), INFO, "worker n1 started, serving default:10"),
    (
        events.WorkerStarted(**NODE, runs_jobs=False),
        INFO,
        "worker n1 started, but tasks are switched off here: it runs no job",
    ),
    (events.WorkerStopping(**NODE, running=2), INFO, "worker n1 stopping, 2 jobs still running"),
    (events.WorkerStopping(**NODE, running=1), INFO, "worker n1 stopping, 1 job still running"),
    (events.WorkerStopped(**NODE), INFO, "worker n1 stopped"),
    (
        events.JobRetried(**JOB, max_attempts=5, error=ERROR_REPORT, delay=SECOND),
        WARNING,
        "job failed attempt 2 of 5, the next follows in 1 s: shop.send id: ValueError: no number",
    ),
    (
        events.JobRescued(**JOB, node="n1", state=State.PENDING),
        WARNING,
        "job rescued from the dead worker n1, now pending: shop.send id",
    ),
    (
        events.SettlementRefused(**JOB, end=End.COMPLETE),
        WARNING,
        "job settlement refused at attempt 2 (complete), another worker has the job now: shop.send id",
    ),
    (
        events.ArgumentsUnfit(**JOB, delay=SECOND, reason="missing 'name'"),
        WARNING,
        "job released for 1 s, its arguments do not fit the task here: shop.send id: missing 'name'",
    ),
    (
        events.TaskUnknown(**JOB, delay=SECOND),
        WARNING,
        "job released for 1 s, its task is not known here: shop.send id",
    ),
    (
        events.ResultOmitted(**JOB, reason="too large"),
        WARNING,
        "job completed without its result, too large: shop.send id",
    ),
    (
        events.QueueNearCapacity(queue="emails", pending=90, capacity=100),
        WARNING,
        "queue 'emails' is near its capacity: 90 jobs pending of 100",
    ),
    (
        events.ScheduleRepaired(name="nightly", was=NOW.replace(year=2099), next_run=NOW),
        WARNING,
        "recurring task 'nightly' was due only at 2099-01-01T00:00:00+00:00; put back to 2026-01-01T00:00:00+00:00",
    ),
    (
        events.LoopStalled(**JOB, stalled_for=SECOND, stack='  File "shop.py", line 3, in send'),
        WARNING,
        (
            "the event loop has been blocked for 1 s by the job shop.send id (queue 'emails', attempt 2), and all else "
            "on it waits; await there, or make the task a plain def or executor='process':\n"
            '  File "shop.py", line 3, in send'
        ),
    ),
    (
        events.LoopStalled(**JOB, stalled_for=SECOND, in_all=3 * SECOND, stack="here"),
        WARNING,
        (
            "the event loop has been blocked for 1 s (3 s in all) by the job shop.send id (queue 'emails', attempt 2), "
            "and all else on it waits; await there, or make the task a plain def or executor='process':\nhere"
        ),
    ),
    (
        events.LoopRecovered(after=SECOND),
        WARNING,
        (
            "the event loop runs again, it was blocked for 1 s by code of no job "
            "(middleware, a callback, a subscriber or the like)"
        ),
    ),
    (
        events.LoopStalled(stalled_for=SECOND, stack="here"),
        WARNING,
        (
            "the event loop has been blocked for 1 s by code of no job "
            "(middleware, a callback, a subscriber or the like), and all else on it waits:\nhere"
        ),
    ),
    (
        events.LoopRecovered(**JOB, after=SECOND),
        WARNING,
        "the event loop runs again, it was blocked for 1 s by the job shop.send id (queue 'emails', attempt 2)",
    ),
    (events.StoreRecovered(after=SECOND), INFO, "the store answers again, after 1 s"),
    (
        events.JobFailed(**JOB, error=ERROR_REPORT),
        ERROR,
        "job failed, no retry can help: shop.send id: ValueError: no number",
    ),
    (events.JobExpired(**JOB), ERROR, "job failed, it expired before it was started: shop.send id"),
    (
        events.JobDiscarded(**JOB, error=ERROR_REPORT),
        ERROR,
        "job discarded after 2 attempts: shop.send id: ValueError: no number",
    ),
    (
        events.TaskIgnoresTimeout(**JOB, timeout=SECOND, place="shop.py:7", lost=1, slots=10),
        WARNING,
        (
            "job runs on after its timeout of 1 s and keeps its slot "
            "(1 of 10 lost, the worker goes on with the others): shop.send id, at shop.py:7"
        ),
    ),
    (
        events.SlotFreed(**JOB, after=7 * SECOND, slots=10),
        WARNING,
        "job ended 7 s after its timeout, its slot is free again: shop.send id",
    ),
    (
        events.WorkerStuck(node="n", queues={}, reason="5 of its 10 slots are lost"),
        ERROR,
        "worker n is stuck, 5 of its 10 slots are lost; it claims no more jobs and ends, for another to replace it",
    ),
    (
        events.QueuesUnserved(
            node="n1", queues={"default": 5}, unserved={"emails": ("shop.send",), "slow": ("a", "b", "c", "d", "e")}
        ),
        WARNING,
        (
            "worker n1 has tasks whose queues no live worker serves: emails (shop.send), slow (a, b, c and 2 more); "
            "their jobs wait until one does: serve them here by --queues 'default:5,emails:10,slow:10', or every queue "
            "by --queues '*:10'"
        ),
    ),
    (events.NodeLost(node="n1"), ERROR, "worker n1 was taken for dead; it registers again"),
    (events.StoreUnavailable(error="gone"), WARNING, "the store does not answer, trying again: gone"),
]


@pytest.fixture
def bus():
    bus = EventBus()
    LogSubscriber().subscribe_to(bus)
    return bus


@pytest.mark.parametrize(("event", "level", "message"), LEVELS, ids=lambda value: type(value).__name__)
def test_an_event_is_logged_at_its_level_in_plain_english(bus, caplog, event, level, message):
    with caplog.at_level(DEBUG, logger="deeper_tasks"):
        bus.emit(event)
    assert caplog.record_tuples == [("deeper_tasks", level, message)]


def test_what_was_told_before_is_not_told_again_at_info(bus, caplog):
    with caplog.at_level(INFO, logger="deeper_tasks"):
        bus.emit(events.TaskUnknown(**JOB, delay=SECOND))
        bus.emit(events.JobReleased(**JOB, reason=TASK_UNKNOWN))
    assert len(caplog.records) == 1


def test_durations_are_told_in_readable_units(bus, caplog):
    with caplog.at_level(INFO, logger="deeper_tasks"):
        bus.emit(events.JobRetried(**JOB, max_attempts=5, error=ERROR_REPORT, delay=timedelta(hours=1)))
    assert "the next follows in 1 h 0 min: " in caplog.text


def test_one_attempt_is_told_as_one(bus, caplog):
    bus.emit(events.JobDiscarded(**{**JOB, "attempt": 1}, error=ERROR_REPORT))
    assert "discarded after 1 attempt: " in caplog.text


def test_every_kind_of_event_is_logged():
    def kinds(kind):
        return {kind}.union(*map(kinds, kind.__subclasses__()))

    assert kinds(Event) - {Event, JobEvent} == {type(event) for event, _, _ in LEVELS}


@pytest.mark.parametrize("event", [event for event, _, _ in LEVELS if isinstance(event, JobEvent)])
def test_the_record_of_a_job_carries_its_fields(bus, caplog, event):
    with caplog.at_level(DEBUG, logger="deeper_tasks"):
        bus.emit(event)
    (record,) = caplog.records
    assert (record.job_id, record.task, record.queue, record.attempt) == (
        event.job_id,
        event.task,
        event.queue,
        event.attempt,
    )


def test_only_kinds_of_an_enabled_level_are_wanted(bus):
    logger = logging.getLogger("deeper_tasks")
    before = logger.level
    try:
        logger.setLevel(WARNING)
        assert not bus.wants(events.JobStarted)
        assert bus.wants(events.JobRetried)
        logger.setLevel(INFO)
        assert bus.wants(events.JobStarted)
        logger.setLevel(ERROR)
        assert not bus.wants(events.JobRetried)
    finally:
        logger.setLevel(before)


LAST = (events.JobFailed(**JOB, error=ERROR_REPORT), events.JobDiscarded(**JOB, error=ERROR_REPORT))
RETRIED = events.JobRetried(**JOB, max_attempts=5, error=ERROR_REPORT, delay=SECOND)


@pytest.mark.parametrize(
    ("tracebacks", "shown"), [("error", [False, True, True]), ("warning", [True, True, True])], ids=["error", "warning"]
)
def test_the_line_of_a_failed_attempt_has_its_traceback_from_the_level_of_the_setting_on(caplog, tracebacks, shown):
    bus = EventBus()
    LogSubscriber(tracebacks=tracebacks).subscribe_to(bus)
    for event in (RETRIED, *LAST):
        bus.emit(event)
    assert [record.exc_text for record in caplog.records] == ["Traceback …" if each else None for each in shown]
    # Whatever the formatter.
    written = [logging.Formatter("%(message)s").format(record) for record in caplog.records]
    assert [text.endswith("\nTraceback …") for text in written] == shown
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert ["exception" in line for line in lines] == shown
    assert all(line["job_id"] == "id" for line in lines)


def test_an_end_without_a_traceback_is_one_line(bus, caplog):
    bus.emit(events.JobExpired(**JOB))
    bus.emit(events.JobFailed(**JOB, error=ErrorReport(kind="Fail", message="no")))
    assert [record.exc_text for record in caplog.records] == [None, None]


def test_a_long_error_is_cut(bus, caplog):
    bus.emit(events.JobFailed(**JOB, error=ErrorReport(kind="E", message="x" * 10_000)))
    assert len(caplog.text) < 500


class TestJsonFormatter:
    @pytest.fixture
    def lines(self, bus):
        lines = []

        class Keep(logging.Handler):
            def emit(self, record):
                lines.append(self.format(record))

        handler = Keep()
        handler.setFormatter(JsonFormatter())
        logger = logging.getLogger("deeper_tasks")
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(INFO)
        yield lines
        logger.removeHandler(handler)
        logger.setLevel(before)

    @pytest.mark.parametrize(
        "event", [event for event, level, _ in LEVELS if level > DEBUG], ids=lambda value: type(value).__name__
    )
    def test_writes_every_event_as_one_line(self, bus, lines, event):
        bus.emit(event)
        (line,) = lines
        assert "\n" not in line
        assert {"time", "level", "logger", "message"} <= set(json.loads(line))

    def test_writes_the_fields_of_a_job(self, bus, lines):
        bus.emit(events.JobCompleted(**JOB, ran_for=SECOND))
        line = json.loads(lines[0])
        assert line | JOB == line
        assert line["level"] == "info"
        assert msgspec.convert(line["time"], datetime).tzinfo is not None
        assert set(line) == {"time", "level", "logger", "message", *JOB}

    def test_writes_exceptions(self, lines):
        try:
            raise ValueError("no")  # noqa: TRY301 - to have a traceback
        except ValueError:
            logging.getLogger("deeper_tasks").exception("failed", stack_info=True)
        line = json.loads(lines[0])
        assert "ValueError: no" in line["exception"]
        assert line["stack"]

    @pytest.mark.parametrize("field", [object(), {1: object()}, "\ud800", {("a", 1): 2}])
    def test_writes_fields_of_any_kind(self, lines, field):
        logging.getLogger("deeper_tasks").warning("odd", extra={"field": field})
        assert "field" in json.loads(lines[0])

    def test_writes_exceptions_that_python_cannot_show_and_fields_without_words(self):
        try:
            raise SyntaxError("odd", ("file", 1, 1, b"bytes"))  # noqa: TRY301 - to have a traceback
        except SyntaxError:
            # Not through a logger: what pytest writes down of it would fail.
            record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info(), "field": Wordless()})
        line = json.loads(JsonFormatter().format(record))
        assert "SyntaxError: odd" in line["exception"]
        assert "raise SyntaxError" in line["exception"]
        assert line["field"] == "<Wordless without words>"


class Wordless:
    def __str__(self):
        raise RuntimeError("no words")
