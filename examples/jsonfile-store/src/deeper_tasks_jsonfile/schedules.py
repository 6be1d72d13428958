"""Schedules: the entries of recurring tasks and what became of their runs. The rules are the domain's."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from deeper_tasks.domain.ids import JobId, RequestId
from deeper_tasks.domain.job import Insertion
from deeper_tasks.domain.schedule import (
    Fired,
    Firing,
    RunNow,
    Schedule,
    ScheduleBook,
    ScheduleEntry,
    first_run,
    resumed_run,
)
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun, inserted, recorded, run_now
from deeper_tasks.domain.state import State
from deeper_tasks_jsonfile.document import NO_JOB, Document
from deeper_tasks_jsonfile.produce import insert


def put_schedule(document: Document, schedule: Schedule, *, now: datetime) -> ScheduleEntry:
    """Register or change an entry."""
    known = document.entries.get(schedule.name)
    next_run = first_run(schedule, known, now=now)
    entry = ScheduleEntry(schedule=schedule, next_run=next_run)
    if known is not None and known.damage:
        # The parts that cannot be read are put right; a pause stays one.
        entry = replace(entry, paused_at=None if known.paused_at is None else now)
    elif known is not None:
        entry = replace(known, schedule=schedule, next_run=next_run)
    document.entries[schedule.name] = entry
    document.removed.pop(schedule.name, None)
    return document.entries[schedule.name]


def pause_schedule(document: Document, name: str, *, is_paused: bool, now: datetime) -> ScheduleEntry | None:
    """Hold an entry's runs, or let them go on."""
    entry = document.entries.get(name)
    if entry is None or entry.damage or (entry.paused_at is not None) == is_paused:
        return entry
    next_run = entry.next_run if is_paused else resumed_run(entry, now=now)
    document.entries[name] = replace(entry, paused_at=now if is_paused else None, next_run=next_run)
    return document.entries[name]


def remove_schedule(document: Document, name: str, *, is_remembered: bool) -> bool:
    """Remove an entry and its history, and remember what the code declares, if that is wanted."""
    document.runs.pop(name, None)
    entry = document.entries.pop(name, None)
    if not is_remembered:
        document.removed.pop(name, None)
    elif entry is not None and entry.schedule.is_declared:
        document.removed[name] = entry.schedule
    return entry is not None


def schedules(document: Document, *, now: datetime) -> ScheduleBook:
    """Return all entries, by name."""
    return ScheduleBook(
        now=now,
        entries=tuple(entry for _, entry in sorted(document.entries.items())),
        removed=tuple(schedule for _, schedule in sorted(document.removed.items())),
    )


def fire(document: Document, firing: Firing, *, now: datetime) -> Fired | None:
    """Insert an entry's jobs and move its next run, if all is as it was planned."""
    entry = document.entries.get(firing.name)
    if entry is None or not firing.fits(entry, now=now):
        return None
    made = {run.job for run in document.runs.get(firing.name, []) if run.job is not None}
    runs = firing.runs_to_write(
        fired_before=document.requests.keys(),
        is_under_way=any(_is_live(document, job) for job in (entry.last_job, *made)),
    )
    runs = inserted(runs, insert(document, [run.job for run in runs if run.job is not None], now=now))
    for run in runs:
        if run.job is not None:
            entry = replace(entry, last_run=run.due, last_job=run.job_id)
    document.entries[firing.name] = replace(entry, next_run=firing.next_run)
    fired = Fired(runs=recorded(runs, now=now))
    _note(document, firing.name, *fired.runs)
    return fired


def run_schedule(document: Document, name: str, *, request_id: RequestId, now: datetime) -> RunNow | None:
    """Insert a job of an entry now, apart from its due times."""
    entry = document.entries.get(name)
    if entry is None:
        return None
    made = document.made_by(request_id)
    if entry.damage or made is not None:
        return RunNow(entry=entry, job=Insertion(id=made or NO_JOB, is_new=False))
    [answer] = insert(document, [entry.schedule.job(request_id)], now=now)
    _note(document, name, run_now(answer, now=now))
    done = RunNow.of(entry, answer)
    document.entries[name] = done.entry
    return done


def schedule_runs(document: Document, name: str, *, limit: int) -> list[ScheduleRun]:
    """Return the newest runs of an entry, each with its job's state now."""
    newest = document.runs.get(name, [])[::-1][:limit]
    return [replace(run, state=_state(document, run.job)) for run in newest]


def _note(document: Document, name: str, *runs: ScheduleRun) -> None:
    document.runs[name] = [*document.runs.get(name, []), *runs][-MAX_KEPT_RUNS:]


def _is_live(document: Document, job: JobId | None) -> bool:
    state = _state(document, job)
    return state is not None and not state.is_terminal


def _state(document: Document, job: JobId | None) -> State | None:
    record = None if job is None else document.jobs.get(job)
    return None if record is None else record.job.state
