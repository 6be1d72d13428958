"""Schedules: the entries of recurring tasks, their firing, once per due time, and its history."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.reading import Reading, read_removed, read_schedule, to_outcome
from deeper_tasks.backends.sqlite import insert
from deeper_tasks.backends.sqlite.codec import micros, moment, read_moment, read_optional_moment, to_json
from deeper_tasks.domain.ids import JobId, RequestId
from deeper_tasks.domain.job import Insertion
from deeper_tasks.domain.schedule import (
    Fired,
    Firing,
    RunNow,
    Schedule,
    ScheduleBook,
    ScheduleEntry,
    registered,
    to_remember,
    with_pause,
)
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, RunOutcome, ScheduleRun, inserted, recorded, run_now
from deeper_tasks.domain.state import TERMINAL

_ENDED = ", ".join(str(CODES[state]) for state in sorted(TERMINAL))

_ENTRY_COLUMNS = "name, document, next_run, last_run, last_job, paused_at"
SELECT_ENTRY = f"SELECT {_ENTRY_COLUMNS} FROM deeper_schedule WHERE name = ?"
SELECT_ENTRIES = f"SELECT {_ENTRY_COLUMNS} FROM deeper_schedule ORDER BY name"
WRITE = """
INSERT INTO deeper_schedule (name, document, next_run, last_run, last_job, paused_at)
VALUES (:name, :document, :next_run, :last_run, :last_job, :paused_at)
ON CONFLICT (name) DO UPDATE SET
    document = excluded.document,
    next_run = excluded.next_run,
    last_run = excluded.last_run,
    last_job = excluded.last_job,
    paused_at = excluded.paused_at
"""
REMOVE = "DELETE FROM deeper_schedule WHERE name = ?"
REMEMBER = """
INSERT INTO deeper_removed_schedule (name, document) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET document = excluded.document
"""
FORGET = "DELETE FROM deeper_removed_schedule WHERE name = ?"
SELECT_REMOVED = "SELECT name, document FROM deeper_removed_schedule ORDER BY name"
SELECT_KNOWN_JOBS = """
SELECT id FROM deeper_job WHERE id IN (SELECT value FROM json_each(:jobs))
UNION ALL
SELECT job FROM deeper_schedule_run WHERE name = :name AND job IN (SELECT value FROM json_each(:jobs))
"""
SELECT_UNDER_WAY = f"""
SELECT 1 FROM deeper_job
WHERE id IN (SELECT job FROM deeper_schedule_run WHERE name = :name UNION ALL SELECT :last_job)
    AND state NOT IN ({_ENDED})
LIMIT 1
"""
ADD_RUNS = """
INSERT INTO deeper_schedule_run (name, fired_at, due_at, outcome, job)
SELECT :name, :now, json_extract(run.value, '$[0]'), json_extract(run.value, '$[1]'), json_extract(run.value, '$[2]')
FROM json_each(:runs) AS run
ORDER BY run.key
"""
TRIM_RUNS = """
DELETE FROM deeper_schedule_run
WHERE name = :name AND number <= (
    SELECT number FROM deeper_schedule_run WHERE name = :name ORDER BY number DESC LIMIT 1 OFFSET :kept
)
"""
DROP_RUNS = "DELETE FROM deeper_schedule_run WHERE name = :name"
SELECT_RUNS = """
SELECT run.due_at, run.fired_at, run.outcome, run.job, job.state
FROM deeper_schedule_run AS run LEFT JOIN deeper_job AS job ON job.id = run.job
WHERE run.name = :name
ORDER BY run.number DESC
LIMIT :limit
"""


def put_schedule(connection: sqlite3.Connection, schedule: Schedule, *, now: int) -> ScheduleEntry:
    """Register or change an entry; see `Backend.put_schedule`."""
    entry = registered(schedule, _entry(connection, schedule.name), now=moment(now))
    connection.execute(FORGET, (schedule.name,))
    _write(connection, entry)
    return entry


def pause_schedule(connection: sqlite3.Connection, name: str, *, is_paused: bool, now: int) -> ScheduleEntry | None:
    """Pause or resume the runs of an entry; see `Backend.pause_schedule`."""
    entry = _entry(connection, name)
    if entry is None:
        return None
    changed = with_pause(entry, is_paused=is_paused, now=moment(now))
    if changed is not entry:
        _write(connection, changed)
    return changed


def remove_schedule(connection: sqlite3.Connection, name: str, *, is_remembered: bool) -> bool:
    """Remove an entry and its history; see `Backend.remove_schedule`."""
    entry = _entry(connection, name)
    if not is_remembered:
        connection.execute(FORGET, (name,))
    if (schedule := to_remember(entry, is_remembered=is_remembered)) is not None:
        connection.execute(REMEMBER, (name, to_json(schedule)))
    connection.execute(DROP_RUNS, {"name": name})
    return connection.execute(REMOVE, (name,)).rowcount > 0


def schedules(connection: sqlite3.Connection, *, now: int) -> ScheduleBook:
    """Return all entries; see `Backend.schedules`."""
    return ScheduleBook(
        now=moment(now),
        entries=tuple(map(_to_entry, connection.execute(SELECT_ENTRIES))),
        removed=read_removed(connection.execute(SELECT_REMOVED)),
    )


def fire(connection: sqlite3.Connection, firing: Firing, *, now: int) -> Fired | None:
    """Insert an entry's jobs, move its next run and note its runs; see `Backend.fire`."""
    entry = _entry(connection, firing.name)
    if entry is None or not firing.fits(entry, now=moment(now)):
        return None
    fired_before = _known(connection, firing.name, [job.request_id for job in firing.jobs])
    runs = firing.runs_to_write(fired_before=fired_before, is_under_way=_is_under_way(connection, entry))
    answers = insert.insert(connection, [run.job for run in runs if run.job is not None], now=now)
    runs = inserted(runs, answers)
    fired = Fired(runs=recorded(runs, now=moment(now)))
    _add_runs(connection, firing.name, fired.runs, now=now)
    _write(connection, firing.moved_on(entry, runs))
    return fired


def run_schedule(connection: sqlite3.Connection, name: str, *, request_id: RequestId, now: int) -> RunNow | None:
    """Insert a job of an entry now; see `Backend.run_schedule`."""
    entry = _entry(connection, name)
    if entry is None:
        return None
    if entry.damage or _known(connection, name, [request_id]):
        return RunNow(entry=entry, job=Insertion(id=request_id, is_new=False))
    [answer] = insert.insert(connection, [entry.schedule.job(request_id)], now=now)
    run = run_now(answer, now=moment(now))
    _add_runs(connection, name, [run], now=now)
    done = RunNow.of(entry, answer)
    _write(connection, done.entry)
    return done


def schedule_runs(connection: sqlite3.Connection, name: str, *, limit: int) -> list[ScheduleRun]:
    """Return the newest runs of an entry; see `Backend.schedule_runs`."""
    return list(map(_to_run, connection.execute(SELECT_RUNS, {"name": name, "limit": limit})))


def _write(connection: sqlite3.Connection, entry: ScheduleEntry) -> None:
    values = {
        "name": entry.schedule.name,
        "document": to_json(entry.schedule),
        "next_run": micros(entry.next_run),
        "last_run": None if entry.last_run is None else micros(entry.last_run),
        "last_job": entry.last_job,
        "paused_at": None if entry.paused_at is None else micros(entry.paused_at),
    }
    connection.execute(WRITE, values)


def _entry(connection: sqlite3.Connection, name: str) -> ScheduleEntry | None:
    row = connection.execute(SELECT_ENTRY, (name,)).fetchone()
    return None if row is None else _to_entry(row)


def _to_entry(row: sqlite3.Row) -> ScheduleEntry:
    reading = Reading()
    return ScheduleEntry(
        schedule=read_schedule(row["name"], row["document"], reading),
        next_run=read_moment("next_run", row["next_run"], reading),
        last_run=read_optional_moment("last_run", row["last_run"], reading),
        last_job=None if row["last_job"] is None else JobId(row["last_job"]),
        paused_at=read_optional_moment("paused_at", row["paused_at"], reading),
        damage=tuple(reading.damage),
    )


def _to_run(row: sqlite3.Row) -> ScheduleRun:
    reading = Reading()
    return ScheduleRun(
        due=read_moment("due_at", row["due_at"], reading),
        fired_at=read_moment("fired_at", row["fired_at"], reading),
        outcome=reading.field("outcome", lambda: to_outcome(row["outcome"]), instead=RunOutcome.UNREADABLE),
        job=None if row["job"] is None else JobId(row["job"]),
        state=None if row["state"] is None else reading.state(row["state"]),
        damage=tuple(reading.damage),
    )


def _known(connection: sqlite3.Connection, name: str, jobs: Sequence[JobId]) -> frozenset[JobId]:
    rows = connection.execute(SELECT_KNOWN_JOBS, {"name": name, "jobs": to_json(jobs)})
    return frozenset(JobId(row[0]) for row in rows)


def _is_under_way(connection: sqlite3.Connection, entry: ScheduleEntry) -> bool:
    values = {"name": entry.schedule.name, "last_job": entry.last_job}
    return connection.execute(SELECT_UNDER_WAY, values).fetchone() is not None


def _add_runs(connection: sqlite3.Connection, name: str, runs: Sequence[ScheduleRun], *, now: int) -> None:
    document = to_json([(micros(run.due), run.outcome, run.job) for run in runs])
    connection.execute(ADD_RUNS, {"name": name, "now": now, "runs": document})
    connection.execute(TRIM_RUNS, {"name": name, "kept": MAX_KEPT_RUNS})
