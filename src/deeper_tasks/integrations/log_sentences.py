"""The sentences of the log: the level and the words of each event. Arguments and results never appear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from logging import ERROR, INFO, WARNING
from typing import Any

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.job import ErrorReport
from deeper_tasks.domain.schedule_run import RunOutcome
from deeper_tasks.domain.state import State
from deeper_tasks.integrations import events
from deeper_tasks.integrations.events import Event, JobEvent

Sentence = Callable[[Any], str]
"""Returns the line of an event. It begins with its subject, and its fixed words stay as they are, for `grep`."""

_LONGEST_ERROR = 300
_MOST_NAMES = 3
_USUAL_SLOTS = 10


def _job(event: JobEvent) -> str:
    return f"{event.task} {event.job_id}" if event.task else event.job_id


def _stopping(event: events.WorkerStopping) -> str:
    return f"worker {event.node} stopping, {_count(event.running, 'job')} still running"


def _count(number: int, one: str) -> str:
    return f"{number} {one}{'' if number == 1 else 's'}"


def _error(error: ErrorReport) -> str:
    text = " ".join(f"{error.kind}: {error.message}".split())
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"


def _enqueued(event: events.JobEnqueued) -> str:
    if not event.is_new:
        return f"job already enqueued: {_job(event)}"
    if event.scheduled_at is not None:
        return f"job enqueued for {event.scheduled_at.isoformat()}: {_job(event)}"
    return (
        f"job enqueued: {_job(event)}"
        if not event.delay
        else f"job enqueued, due in {readable(event.delay)}: {_job(event)}"
    )


def _rescheduled(event: events.JobRescheduled) -> str:
    when = "to run now" if event.state is State.PENDING else f"for {event.scheduled_at.isoformat()}"
    return f"job rescheduled {when}: {_job(event)}"


def _retried(event: events.JobRetried) -> str:
    return (
        f"job failed attempt {event.attempt} of {event.max_attempts}, "
        f"the next follows in {readable(event.delay)}: {_job(event)}: {_error(event.error)}"
    )


def _quarantined(event: events.JobQuarantined) -> str:
    where = "with no other job beside it" if event.is_alone else "in a process of its own"
    return f"job runs in quarantine after its worker died, {where}: {_job(event)}"


def _fired(event: events.ScheduleFired) -> str:
    if not event.jobs:
        why = ", ".join(_HELD_BACK.get(outcome, outcome) for outcome in event.held_back)
        return f"recurring task {event.name!r} was due and enqueued no job{': ' + why if why else ''}"
    return f"recurring task {event.name!r} fired: {', '.join(event.jobs)}"


_HELD_BACK: dict[RunOutcome, str] = {
    RunOutcome.SKIPPED_OVERLAP: "its last job has not ended",
    RunOutcome.SKIPPED_UNIQUE: "another job holds its unique key",
    RunOutcome.SKIPPED_MISSED: "the run was missed",
}


def _cleaned(event: events.CleanupRan) -> str:
    what = f"{_count(event.deleted, 'ended job')} in {readable(event.took)}"
    return f"manual clean-up deleted {what}" if event.is_manual else f"clean-up deleted {what}"


def _removed(event: events.ScheduleRemoved) -> str:
    why = ", because the code no longer declares it" if event.was_declared else ""
    return f"recurring task {event.name!r} was removed{why}"


def _culprit(event: events.LoopStalled | events.LoopRecovered) -> str:
    if event.job_id is None:
        return "code of no job (middleware, a callback, a subscriber or the like)"
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
        return f"a new, empty store was made at {event.place}{doubt}"
    hint = "" if event.place in event.url else "; a relative path begins at the worker's working folder"
    return (
        f"a new, empty store was made at {event.place}: "
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


SENTENCES: dict[type[Event], tuple[int, Sentence]] = {
    events.JobEnqueued: (INFO, _enqueued),
    events.JobStarted: (
        INFO,
        lambda e: f"job started attempt {e.attempt}, {readable(e.wait)} after it was due: {_job(e)}",
    ),
    events.JobQuarantined: (INFO, _quarantined),
    events.JobCompleted: (INFO, lambda e: f"job completed in {readable(e.ran_for)}: {_job(e)}"),
    events.JobSnoozed: (INFO, lambda e: f"job snoozed for {readable(e.delay)}: {_job(e)}"),
    events.JobReleased: (INFO, lambda e: f"job released ({e.reason}): {_job(e)}"),
    events.JobCancelled: (INFO, lambda e: f"job cancelled{', ' + e.reason if e.reason else ''}: {_job(e)}"),
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
    events.JobRescued: (WARNING, lambda e: f"job rescued from the dead worker {e.node}, now {e.state}: {_job(e)}"),
    events.SettlementRefused: (
        WARNING,
        lambda e: f"job settlement refused at attempt {e.attempt} ({e.end}), another worker has the job now: {_job(e)}",
    ),
    events.TaskUnknown: (
        WARNING,
        lambda e: f"job released for {readable(e.delay)}, its task is not known here: {_job(e)}",
    ),
    events.ArgumentsUnfit: (
        WARNING,
        lambda e: (
            f"job released for {readable(e.delay)}, its arguments do not fit the task here: {_job(e)}: {e.reason}"
        ),
    ),
    events.ResultOmitted: (WARNING, lambda e: f"job completed without its result, {e.reason}: {_job(e)}"),
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
        lambda e: f"the event loop runs again, it was blocked for {readable(e.after)} by {_culprit(e)}",
    ),
    events.StoreMade: (WARNING, _store_made),
    events.StoreUnavailable: (WARNING, lambda e: f"the store does not answer, trying again: {e.error}"),
    events.JobFailed: (ERROR, lambda e: f"job failed, no retry can help: {_job(e)}: {_error(e.error)}"),
    events.JobExpired: (ERROR, lambda e: f"job failed, it expired before it was started: {_job(e)}"),
    events.JobDiscarded: (
        ERROR,
        lambda e: f"job discarded after {_count(e.attempt, 'attempt')}: {_job(e)}: {_error(e.error)}",
    ),
    events.WorkerStuck: (
        ERROR,
        lambda e: f"worker {e.node} is stuck, {e.reason}; it claims no more jobs and ends, for another to replace it",
    ),
    events.NodeLost: (ERROR, lambda e: f"worker {e.node} was taken for dead; it registers again"),
}
"""The level of each event and its sentence."""
