"""Schedules: the entries of recurring tasks, and their firing, once per due time."""

from __future__ import annotations

import sqlite3

import msgspec

from deeper_tasks.backends.sqlite import produce
from deeper_tasks.backends.sqlite.codec import CODES, micros, moment, optional_moment, to_json
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.schedule import Fired, Firing, Overlap, Schedule, ScheduleBook, ScheduleEntry, first_run
from deeper_tasks.domain.state import TERMINAL

_ENDED = frozenset(CODES[state] for state in TERMINAL)

_ENTRY_COLUMNS = "document, next_run, last_run, last_job, paused_at"
SELECT_ENTRY = f"SELECT {_ENTRY_COLUMNS} FROM deeper_schedule WHERE name = ?"
SELECT_ENTRIES = f"SELECT {_ENTRY_COLUMNS} FROM deeper_schedule ORDER BY name"
PUT = """
INSERT INTO deeper_schedule (name, document, next_run) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET document = excluded.document, next_run = excluded.next_run
"""
REMOVE = "DELETE FROM deeper_schedule WHERE name = ?"
SELECT_JOB_STATE = "SELECT state FROM deeper_job WHERE id = ?"
MOVE_ON = """
UPDATE deeper_schedule SET
    next_run = :next_run,
    last_run = coalesce(:last_run, last_run),
    last_job = coalesce(:last_job, last_job)
WHERE name = :name
"""

_schedule = msgspec.json.Decoder(Schedule)


def put_schedule(connection: sqlite3.Connection, schedule: Schedule, *, now: int) -> ScheduleEntry:
    """Register or change an entry; see `Backend.put_schedule`."""
    next_run = first_run(schedule, _entry(connection, schedule.name), now=moment(now))
    connection.execute(PUT, (schedule.name, to_json(schedule), micros(next_run)))
    entry = _entry(connection, schedule.name)
    assert entry is not None
    return entry


def remove_schedule(connection: sqlite3.Connection, name: str) -> bool:
    """Remove an entry; see `Backend.remove_schedule`."""
    return connection.execute(REMOVE, (name,)).rowcount > 0


def schedules(connection: sqlite3.Connection, *, now: int) -> ScheduleBook:
    """Return all entries; see `Backend.schedules`."""
    return ScheduleBook(now=moment(now), entries=tuple(map(_to_entry, connection.execute(SELECT_ENTRIES))))


def fire(connection: sqlite3.Connection, firing: Firing, *, now: int) -> Fired | None:
    """Insert an entry's jobs and move its next run; see `Backend.fire`."""
    entry = _entry(connection, firing.name)
    if entry is None or entry.paused_at is not None or entry.next_run != firing.expected:
        return None
    if micros(firing.expected) > now and not firing.is_repair:
        return None
    is_held_back = firing.overlap is Overlap.SKIP and _is_unfinished(connection, entry.last_job)
    jobs = () if is_held_back else firing.jobs
    # An id that is there already was fired before, perhaps with what the entry said then.
    fresh = [job for job in jobs if not _is_known(connection, job.id)]
    produce.insert(connection, fresh, now=now)
    inserted = tuple(job.id for job in jobs)
    last_run = None if not jobs or jobs[-1].due is None else micros(jobs[-1].due)
    last_job = inserted[-1] if inserted else None
    next_run = micros(firing.next_run)
    connection.execute(MOVE_ON, {"name": firing.name, "next_run": next_run, "last_run": last_run, "last_job": last_job})
    return Fired(jobs=inserted)


def _entry(connection: sqlite3.Connection, name: str) -> ScheduleEntry | None:
    row = connection.execute(SELECT_ENTRY, (name,)).fetchone()
    return None if row is None else _to_entry(row)


def _to_entry(row: sqlite3.Row) -> ScheduleEntry:
    return ScheduleEntry(
        schedule=_schedule.decode(row["document"]),
        next_run=moment(row["next_run"]),
        last_run=optional_moment(row["last_run"]),
        last_job=None if row["last_job"] is None else JobId(row["last_job"]),
        paused_at=optional_moment(row["paused_at"]),
    )


def _is_known(connection: sqlite3.Connection, job_id: JobId) -> bool:
    return connection.execute(SELECT_JOB_STATE, (job_id,)).fetchone() is not None


def _is_unfinished(connection: sqlite3.Connection, job_id: JobId | None) -> bool:
    row = connection.execute(SELECT_JOB_STATE, (job_id,)).fetchone()
    return row is not None and row[0] not in _ENDED
