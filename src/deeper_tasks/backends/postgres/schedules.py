"""Schedules: the entries of recurring tasks, their firing, once per due time, and its history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.postgres.codec import (
    Row,
    array,
    moment_text,
    read_moment,
    read_optional_moment,
    text_array,
    to_json,
)
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.postgres.insert import insert_inside
from deeper_tasks.backends.reading import Reading, read_removed, read_schedule, to_outcome
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

_ENDED = array(CODES[state] for state in sorted(TERMINAL))

_ENTRY_COLUMNS = "name, document, next_run, last_run, last_job::text, paused_at"
LOCK_NAME = "SELECT pg_advisory_xact_lock(hashtextextended(%(name)s, 1))"
"""Locks an entry by its name, even if it does not exist yet."""
SELECT_NOW = "SELECT coalesce(%(now)s::timestamptz, clock_timestamp())"
SELECT_ENTRY = f"SELECT {_ENTRY_COLUMNS} FROM schedule WHERE name = %(name)s"
SELECT_ENTRIES = f"SELECT {_ENTRY_COLUMNS} FROM schedule ORDER BY name"
WRITE = """
INSERT INTO schedule (name, document, next_run, last_run, last_job, paused_at)
VALUES (
    %(name)s, %(document)s, %(next_run)s::timestamptz, %(last_run)s::timestamptz, %(last_job)s::uuid,
    %(paused_at)s::timestamptz
)
ON CONFLICT (name) DO UPDATE SET
    document = excluded.document,
    next_run = excluded.next_run,
    last_run = excluded.last_run,
    last_job = excluded.last_job,
    paused_at = excluded.paused_at
"""
REMOVE = "DELETE FROM schedule WHERE name = %(name)s"
REMEMBER = """
INSERT INTO removed_schedule (name, document) VALUES (%(name)s, %(document)s)
ON CONFLICT (name) DO UPDATE SET document = excluded.document
"""
FORGET = "DELETE FROM removed_schedule WHERE name = %(name)s"
SELECT_REMOVED = "SELECT name, document FROM removed_schedule ORDER BY name"
SELECT_KNOWN_JOBS = """
SELECT id::text FROM job WHERE id = ANY (%(jobs)s::uuid[])
UNION ALL
SELECT job::text FROM schedule_run WHERE name = %(name)s AND job = ANY (%(jobs)s::uuid[])
"""
SELECT_UNDER_WAY = """
SELECT 1 FROM job
WHERE id = ANY (ARRAY (SELECT job FROM schedule_run WHERE name = %(name)s UNION ALL SELECT %(last_job)s::uuid))
    AND job.state + 0 <> ALL (%(ended)s::smallint[])
LIMIT 1
"""
ADD_RUNS = """
INSERT INTO schedule_run (name, number, fired_at, due_at, outcome, job)
SELECT
    %(name)s, coalesce((SELECT max(number) FROM schedule_run WHERE name = %(name)s), 0) + run.place,
    %(now)s::timestamptz, run.due_at, run.outcome, run.job
FROM unnest(%(due)s::timestamptz[], %(outcomes)s::text[], %(jobs)s::uuid[]) WITH ORDINALITY
    AS run (due_at, outcome, job, place)
"""
"""The entry is locked, so that no two transactions take the same number."""
TRIM_RUNS = """
DELETE FROM schedule_run
WHERE name = %(name)s AND number <= (
    SELECT number FROM schedule_run WHERE name = %(name)s ORDER BY number DESC LIMIT 1 OFFSET %(kept)s
)
"""
DROP_RUNS = "DELETE FROM schedule_run WHERE name = %(name)s"
SELECT_RUNS = """
SELECT run.due_at, run.fired_at, run.outcome, run.job::text, job.state
FROM schedule_run AS run LEFT JOIN job ON job.id = run.job
WHERE run.name = %(name)s
ORDER BY run.number DESC
LIMIT %(limit)s
"""


async def put_schedule(transaction: Transaction, schedule: Schedule, *, now: str | None) -> ScheduleEntry:
    """Register or change an entry; see `Backend.put_schedule`."""
    moment = await _locked(transaction, schedule.name, now=now)
    entry = registered(schedule, await _entry(transaction, schedule.name), now=moment)
    await transaction.execute(FORGET, {"name": schedule.name})
    await _write(transaction, entry)
    return entry


async def pause_schedule(
    transaction: Transaction, name: str, *, is_paused: bool, now: str | None
) -> ScheduleEntry | None:
    """Pause or resume an entry; see `Backend.pause_schedule`."""
    moment = await _locked(transaction, name, now=now)
    entry = await _entry(transaction, name)
    if entry is None:
        return None
    changed = with_pause(entry, is_paused=is_paused, now=moment)
    if changed is not entry:
        await _write(transaction, changed)
    return changed


async def remove_schedule(transaction: Transaction, name: str, *, is_remembered: bool) -> bool:
    """Remove an entry and its history; see `Backend.remove_schedule`."""
    await _locked(transaction, name, now=None)
    entry = await _entry(transaction, name)
    if not is_remembered:
        await transaction.execute(FORGET, {"name": name})
    if (schedule := to_remember(entry, is_remembered=is_remembered)) is not None:
        await transaction.execute(REMEMBER, {"name": name, "document": to_json(schedule)})
    await transaction.execute(DROP_RUNS, {"name": name})
    return await transaction.execute(REMOVE, {"name": name}) > 0


async def schedules(transaction: Transaction, *, now: str | None) -> ScheduleBook:
    """Return all entries; see `Backend.schedules`."""
    [(moment,)] = await transaction.rows(SELECT_NOW, {"now": now})
    return ScheduleBook(
        now=moment,
        entries=tuple(map(_to_entry, await transaction.rows(SELECT_ENTRIES))),
        removed=read_removed(await transaction.rows(SELECT_REMOVED)),
    )


async def fire(transaction: Transaction, firing: Firing, *, store: str, now: str | None) -> Fired | None:
    """Insert an entry's jobs, move its next run and note its runs; see `Backend.fire`."""
    moment = await _locked(transaction, firing.name, now=now)
    entry = await _entry(transaction, firing.name)
    if entry is None or not firing.fits(entry, now=moment):
        return None
    fired_before = await _known(transaction, firing.name, [job.request_id for job in firing.jobs])
    is_under_way = await _is_under_way(transaction, entry)
    runs = firing.runs_to_write(fired_before=fired_before, is_under_way=is_under_way)
    jobs = [run.job for run in runs if run.job is not None]
    runs = inserted(runs, await insert_inside(transaction, jobs, store=store, now=moment_text(moment)))
    fired = Fired(runs=recorded(runs, now=moment))
    await _add_runs(transaction, firing.name, fired.runs, now=moment)
    await _write(transaction, firing.moved_on(entry, runs))
    return fired


async def run_schedule(
    transaction: Transaction, name: str, *, request_id: RequestId, store: str, now: str | None
) -> RunNow | None:
    """Insert a job of an entry now; see `Backend.run_schedule`."""
    moment = await _locked(transaction, name, now=now)
    entry = await _entry(transaction, name)
    if entry is None:
        return None
    if entry.damage or await _known(transaction, name, [request_id]):
        return RunNow(entry=entry, job=Insertion(id=request_id, is_new=False))
    job = entry.schedule.job(request_id)
    [answer] = await insert_inside(transaction, [job], store=store, now=moment_text(moment))
    run = run_now(answer, now=moment)
    await _add_runs(transaction, name, [run], now=moment)
    done = RunNow.of(entry, answer)
    await _write(transaction, done.entry)
    return done


async def schedule_runs(transaction: Transaction, name: str, *, limit: int) -> list[ScheduleRun]:
    """Return the newest runs of an entry; see `Backend.schedule_runs`."""
    return list(map(_to_run, await transaction.rows(SELECT_RUNS, {"name": name, "limit": limit})))


async def _locked(transaction: Transaction, name: str, *, now: str | None) -> datetime:
    """Lock an entry; return the moment at which the lock was there."""
    await transaction.rows(LOCK_NAME, {"name": name})
    [(moment,)] = await transaction.rows(SELECT_NOW, {"now": now})
    assert isinstance(moment, datetime)
    return moment


async def _write(transaction: Transaction, entry: ScheduleEntry) -> None:
    values = {
        "name": entry.schedule.name,
        "document": to_json(entry.schedule),
        "next_run": moment_text(entry.next_run),
        "last_run": moment_text(entry.last_run),
        "last_job": entry.last_job,
        "paused_at": moment_text(entry.paused_at),
    }
    await transaction.execute(WRITE, values)


async def _entry(transaction: Transaction, name: str) -> ScheduleEntry | None:
    row = await transaction.row(SELECT_ENTRY, {"name": name})
    return None if row is None else _to_entry(row)


def _to_entry(row: Row) -> ScheduleEntry:
    name, document, next_run, last_run, last_job, paused_at = row
    reading = Reading()
    return ScheduleEntry(
        schedule=read_schedule(name, document, reading),
        next_run=read_moment("next_run", next_run, reading),
        last_run=read_optional_moment("last_run", last_run, reading),
        last_job=last_job,
        paused_at=read_optional_moment("paused_at", paused_at, reading),
        damage=tuple(reading.damage),
    )


def _to_run(row: Row) -> ScheduleRun:
    due_at, fired_at, outcome, job, state = row
    reading = Reading()
    return ScheduleRun(
        due=read_moment("due_at", due_at, reading),
        fired_at=read_moment("fired_at", fired_at, reading),
        outcome=reading.field("outcome", lambda: to_outcome(outcome), instead=RunOutcome.UNREADABLE),
        job=job,
        state=None if state is None else reading.state(state),
        damage=tuple(reading.damage),
    )


async def _known(transaction: Transaction, name: str, jobs: Sequence[JobId]) -> frozenset[JobId]:
    rows = await transaction.rows(SELECT_KNOWN_JOBS, {"name": name, "jobs": array(jobs)})
    return frozenset(JobId(row[0]) for row in rows)


async def _is_under_way(transaction: Transaction, entry: ScheduleEntry) -> bool:
    values = {"name": entry.schedule.name, "last_job": entry.last_job, "ended": _ENDED}
    return await transaction.row(SELECT_UNDER_WAY, values) is not None


async def _add_runs(transaction: Transaction, name: str, runs: Sequence[ScheduleRun], *, now: datetime) -> None:
    values = {
        "name": name,
        "now": moment_text(now),
        "due": text_array(moment_text(run.due) for run in runs),
        "outcomes": text_array(run.outcome for run in runs),
        "jobs": array(run.job for run in runs),
    }
    await transaction.execute(ADD_RUNS, values)
    await transaction.execute(TRIM_RUNS, {"name": name, "kept": MAX_KEPT_RUNS})
