"""Logs: the life of jobs and workers in the logger `deeper_tasks`. Arguments and results never appear."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from logging import DEBUG, ERROR, INFO, WARNING
from typing import Any

import msgspec

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.job import ErrorReport
from deeper_tasks.domain.schedule_run import RunOutcome
from deeper_tasks.domain.settlement import TOLD_BEFORE
from deeper_tasks.domain.state import State
from deeper_tasks.domain.text import storable
from deeper_tasks.integrations import events
from deeper_tasks.integrations.events import Event, EventBus, JobEvent
from deeper_tasks.integrations.tracebacks import format_traceback

Phrase = Callable[[Any], str]

_LONGEST_ERROR, _LONGEST_FIELD = 300, 10_000
_MOST_NAMES = 3
_USUAL_SLOTS = 10


class LogSubscriber:
    """
    Writes events to a logger, with `job_id`, `task`, `queue` and `attempt` as fields of the record.

    It wants only the kinds whose level is enabled at the moment, so at WARNING
    a job that starts and completes costs nothing.
    """

    def __init__(self, logger: logging.Logger | None = None, *, tracebacks: str = "error") -> None:
        """Take the level, `error` or `warning`, from which the line of a failed attempt has its traceback."""
        self._logger = logger or logging.getLogger("deeper_tasks")
        self._shows_all_tracebacks = tracebacks == "warning"

    def subscribe_to(self, bus: EventBus) -> Callable[[], None]:
        """Start to listen; returns a function that stops it."""
        return bus.subscribe(self, *_ENTRIES, is_wanted=self.is_wanted)

    def is_wanted(self, kind: type[Event]) -> bool:
        """Whether an event of this kind would be written."""
        entry = _ENTRIES.get(kind)
        return entry is not None and self._logger.isEnabledFor(entry[0])

    def __call__(self, event: Event) -> None:
        """Write one event."""
        level, phrase = _ENTRIES[type(event)]
        if isinstance(event, events.JobReleased) and event.reason in TOLD_BEFORE:
            level = DEBUG
        elif isinstance(event, events.StoreMade) and not (event.is_worker or event.is_elsewhere):
            level = INFO
        traceback = self._traceback(event)
        if traceback is None:
            self._logger.log(level, "%s", phrase(event), extra=_fields(event))
            return
        place = (__file__, 0, "%s", (phrase(event),), None, None)
        record = self._logger.makeRecord(self._logger.name, level, *place, extra=_fields(event))
        # The exception itself may have been in another process, or in another life of this worker.
        record.exc_text = traceback
        self._logger.handle(record)

    def _traceback(self, event: Event) -> str | None:
        """Return the traceback that belongs to the line of an event, if one does."""
        is_last = isinstance(event, events.JobFailed | events.JobDiscarded)
        if is_last or (self._shows_all_tracebacks and isinstance(event, events.JobRetried)):
            error: ErrorReport = event.error  # type: ignore[attr-defined]
            return error.traceback and error.traceback.rstrip("\n")
        return None


def level_of(kind: type[Event]) -> int | None:
    """Return the level at which an event of this kind is logged; None: it is not."""
    entry = _ENTRIES.get(kind)
    return None if entry is None else entry[0]


def keep_enabled(name: str = "deeper_tasks") -> None:
    """
    Keep a logger of this process enabled, whatever is configured later.

    `logging.config` disables each logger that it does not name, by its default, and a worker would be silent.
    """
    logger = logging.getLogger(name)
    if not isinstance(logger, _KeptEnabled):
        logger.disabled = False
        logger.__class__ = type("KeptEnabled", (_KeptEnabled, type(logger)), {})


def log_warnings() -> None:
    """Have the warnings of this process (`warnings.warn`) logged, by the logger `py.warnings`."""
    logging.captureWarnings(True)
    keep_enabled("py.warnings")


def logs_warnings() -> bool:
    """Whether the warnings of this process are logged, because of `log_warnings` or of the application."""
    return getattr(warnings.showwarning, "__module__", None) == "logging"


class _KeptEnabled(logging.Logger):
    def __setattr__(self, name: str, value: object) -> None:
        if name != "disabled":
            super().__setattr__(name, value)


class TotalFormatter(logging.Formatter):
    """A formatter that also writes exceptions which Python cannot show."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Return the lines of a traceback."""
        return format_traceback(ei[1]).rstrip("\n") if ei[1] is not None else super().formatException(ei)


class JsonFormatter(TotalFormatter):
    """Formats a record as one line of JSON: time (UTC), level, logger, message, and the fields it carries."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. What is not JSON appears as its text."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            # A warning that is logged ends with a newline.
            "message": record.getMessage().rstrip("\n"),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _OF_EVERY_RECORD and key not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            # Of another process, where the exception itself was left.
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return _json_line(line)


_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _json_line(line: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(line, enc_hook=str).decode()
    except Exception:  # noqa: BLE001 - a field of the application's: the line must come out
        plain = {
            storable(key, most=_LONGEST_FIELD): storable(value, most=_LONGEST_FIELD) for key, value in line.items()
        }
        return msgspec.json.encode(plain).decode()


def _fields(event: Event) -> dict[str, Any]:
    if not isinstance(event, JobEvent):
        # `name` would collide with the record's own.
        values = msgspec.structs.asdict(event)
        return {_RENAMED.get(key, key): value for key, value in values.items() if key not in _IN_THE_MESSAGE}
    return {"job_id": event.job_id, "task": event.task, "queue": event.queue, "attempt": event.attempt}


_RENAMED = {"name": "schedule"}
_IN_THE_MESSAGE = frozenset({"stack"})


def _job(event: JobEvent) -> str:
    return f"{event.task} {event.job_id}" if event.task else event.job_id


def _stopping(event: events.WorkerStopping) -> str:
    return (
        f"worker {event.node} is stopping, {_count(event.running, 'job')} still run{'s' if event.running == 1 else ''}"
    )


def _count(number: int, one: str) -> str:
    return f"{number} {one}{'' if number == 1 else 's'}"


def _error(error: ErrorReport) -> str:
    text = " ".join(f"{error.kind}: {error.message}".split())
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"


def _enqueued(event: events.JobEnqueued) -> str:
    if not event.is_new:
        return f"not enqueued, the job is there already: {_job(event)}"
    if event.scheduled_at is not None:
        return f"enqueued for {event.scheduled_at.isoformat()}: {_job(event)}"
    return f"enqueued: {_job(event)}" if not event.delay else f"enqueued, due in {readable(event.delay)}: {_job(event)}"


def _rescheduled(event: events.JobRescheduled) -> str:
    when = "to run now" if event.state is State.PENDING else f"for {event.scheduled_at.isoformat()}"
    return f"rescheduled {when}: {_job(event)}"


def _retried(event: events.JobRetried) -> str:
    return (
        f"attempt {event.attempt} of {event.max_attempts} failed, "
        f"the next follows in {readable(event.delay)}: {_job(event)}: {_error(event.error)}"
    )


def _quarantined(event: events.JobQuarantined) -> str:
    where = "with no other job beside it" if event.is_alone else "in a process of its own"
    return f"job runs in quarantine after its worker died, {where}: {_job(event)}"


def _fired(event: events.ScheduleFired) -> str:
    if not event.jobs:
        why = ", ".join(_HELD_BACK.get(outcome, outcome) for outcome in event.held_back)
        return f"recurring task {event.name!r} was due and held back{': ' + why if why else ''}"
    return f"recurring task {event.name!r} fired: {', '.join(event.jobs)}"


_HELD_BACK: dict[RunOutcome, str] = {
    RunOutcome.SKIPPED_OVERLAP: "its last job has not ended",
    RunOutcome.SKIPPED_UNIQUE: "another job holds its unique key",
    RunOutcome.SKIPPED_MISSED: "the run was missed",
}


def _cleaned(event: events.CleanupRan) -> str:
    whose = "manual clean-up" if event.is_manual else "clean-up"
    return f"{whose} deleted {_count(event.deleted, 'ended job')} in {readable(event.took)}"


def _removed(event: events.ScheduleRemoved) -> str:
    why = ", because the code no longer declares it" if event.was_declared else ""
    return f"recurring task {event.name!r} was removed{why}"


def _culprit(event: events.LoopStalled | events.LoopRecovered) -> str:
    if event.job_id is None:
        return "what is no job's code (middleware, a callback, a subscriber or the like)"
    return f"the job {event.task} {event.job_id} (queue {event.queue!r}, attempt {event.attempt})"


def _ignoring(event: events.TaskIgnoresTimeout) -> str:
    where = f", at {event.place}" if event.place else ""
    timeout = "" if event.timeout is None else f" of {readable(event.timeout)}"
    return (
        f"job runs on after its timeout{timeout} and keeps its slot ({event.lost} of {event.slots} lost, "
        f"the worker goes on with the others): {_job(event)}{where}"
    )


def _stalled(event: events.LoopStalled) -> str:
    way_out = "" if event.job_id is None else "; await there, or make the task a plain def or executor='process'"
    in_all = f" ({readable(event.in_all)} in all)" if event.in_all > event.stalled_for else ""
    return (
        f"the event loop has been blocked for {readable(event.stalled_for)}{in_all} by {_culprit(event)}, "
        f"and all else on it waits{way_out}:\n{event.stack}"
    )


def _store_made(event: events.StoreMade) -> str:
    if not event.is_worker:
        doubt = (
            f": the path in its URL ({event.url!r}) begins at the working folder, where this program's code is not; "
            f"if workers look elsewhere, write the absolute path"
            if event.is_elsewhere
            else ""
        )
        return f"made a new, empty store at {event.place}{doubt}"
    hint = "" if event.place in event.url else "; a relative path begins at the worker's working folder"
    return (
        f"made a new, empty store at {event.place}: "
        f"if it should hold jobs, stop this worker and correct its URL ({event.url!r}{hint})"
    )


def _queues(queues: dict[str, int]) -> str:
    return ", ".join(f"{name}:{slots}" for name, slots in queues.items())


def _started(event: events.WorkerStarted) -> str:
    if not event.runs_jobs:
        return f"worker {event.node} started, but tasks are switched off here: it runs no job"
    return f"worker {event.node} started, serving {_queues(event.queues)}"


def _unserved(event: events.QueuesUnserved) -> str:
    queues = ", ".join(f"{queue} ({_some(tasks)})" for queue, tasks in event.unserved.items())
    entries = event.queues | dict.fromkeys(event.unserved, _USUAL_SLOTS)
    wanted = ",".join(f"{entry}:{slots}" for entry, slots in entries.items())
    return (
        f"worker {event.node} has tasks whose queues no live worker serves: {queues}; their jobs wait until one does: "
        f"serve them here by --queues '{wanted}', or every queue by --queues '*:{_USUAL_SLOTS}'"
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


_ENTRIES: dict[type[Event], tuple[int, Phrase]] = {
    events.JobEnqueued: (INFO, _enqueued),
    events.JobStarted: (INFO, lambda e: f"started attempt {e.attempt}, {readable(e.wait)} after it was due: {_job(e)}"),
    events.JobQuarantined: (INFO, _quarantined),
    events.JobCompleted: (INFO, lambda e: f"completed in {readable(e.ran_for)}: {_job(e)}"),
    events.JobSnoozed: (INFO, lambda e: f"snoozed for {readable(e.delay)}: {_job(e)}"),
    events.JobReleased: (INFO, lambda e: f"job released ({e.reason}): {_job(e)}"),
    events.JobCancelled: (INFO, lambda e: f"cancelled{', ' + e.reason if e.reason else ''}: {_job(e)}"),
    events.JobRescheduled: (INFO, _rescheduled),
    events.StoreRecovered: (INFO, lambda e: f"the store answers again, after {readable(e.after)}"),
    events.QueuePaused: (INFO, lambda e: f"queue {e.queue!r} was paused"),
    events.QueueResumed: (INFO, lambda e: f"queue {e.queue!r} was resumed"),
    events.ScheduleFired: (INFO, _fired),
    events.SchedulePaused: (INFO, lambda e: f"recurring task {e.name!r} was paused"),
    events.ScheduleResumed: (
        INFO,
        lambda e: f"recurring task {e.name!r} was resumed, next due at {e.next_run.isoformat()}",
    ),
    events.ScheduleRemoved: (INFO, _removed),
    events.CleanupRan: (INFO, _cleaned),
    events.WorkerStarted: (INFO, _started),
    events.WorkerStopping: (INFO, _stopping),
    events.WorkerStopped: (INFO, lambda e: f"worker {e.node} stopped"),
    events.QueuesUnserved: (WARNING, _unserved),
    events.JobRetried: (WARNING, _retried),
    events.JobRescued: (WARNING, lambda e: f"rescued from the dead worker {e.node}, now {e.state}: {_job(e)}"),
    events.SettlementRefused: (
        WARNING,
        lambda e: f"the end of attempt {e.attempt} ({e.end}) was refused, the job is another worker's now: {_job(e)}",
    ),
    events.TaskUnknown: (
        WARNING,
        lambda e: f"task {e.task!r} is not known here, given back for {readable(e.delay)}: {e.job_id}",
    ),
    events.ArgumentsUnfit: (
        WARNING,
        lambda e: f"the arguments do not fit the task here, given back for {readable(e.delay)}: {_job(e)}: {e.reason}",
    ),
    events.ResultOmitted: (WARNING, lambda e: f"completed without its result, {e.reason}: {_job(e)}"),
    events.QueueNearCapacity: (
        WARNING,
        lambda e: f"queue {e.queue!r} is near its capacity: {e.pending} jobs pending of {e.capacity}",
    ),
    events.ScheduleRepaired: (
        WARNING,
        lambda e: (
            f"recurring task {e.name!r} was due only at {e.was.isoformat()}; put back to {e.next_run.isoformat()}"
        ),
    ),
    events.ScheduleOrphaned: (
        WARNING,
        lambda e: (
            f"recurring task {e.name!r} was declared by code, and its task {e.task!r} is not known here; "
            "if it is gone for good, remove it with cancel_recurring_task"
        ),
    ),
    events.TaskIgnoresTimeout: (WARNING, _ignoring),
    events.SlotFreed: (
        WARNING,
        lambda e: f"job ended {readable(e.after)} after its timeout, its slot is free again: {_job(e)}",
    ),
    events.LoopStalled: (WARNING, _stalled),
    events.LoopRecovered: (
        WARNING,
        lambda e: f"the event loop turns again, it was blocked for {readable(e.after)} by {_culprit(e)}",
    ),
    events.StoreMade: (WARNING, _store_made),
    events.StoreUnavailable: (WARNING, lambda e: f"the store does not answer, trying again: {e.error}"),
    events.JobFailed: (ERROR, lambda e: f"failed, no retry can mend it: {_job(e)}: {_error(e.error)}"),
    events.JobExpired: (ERROR, lambda e: f"failed, it expired before it was started: {_job(e)}"),
    events.JobDiscarded: (
        ERROR,
        lambda e: f"discarded after {_count(e.attempt, 'attempt')}: {_job(e)}: {_error(e.error)}",
    ),
    events.WorkerStuck: (
        ERROR,
        lambda e: f"worker {e.node} is stuck, {e.reason}; it claims no more and ends, for another to take its place",
    ),
    events.NodeLost: (ERROR, lambda e: f"worker {e.node} was taken for dead; it registers anew"),
}
"""The level of each event and its sentence."""
