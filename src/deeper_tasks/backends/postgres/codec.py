"""The codec: writes the domain's values as PostgreSQL reads them, and reads rows of jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.postgres.moments import BeyondCalendar
from deeper_tasks.backends.reading import NO_OPTIONS, UNREADABLE, Reading, are_attempts, to_options, to_progress
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import AttemptError, ClaimedJob, ErrorReport, Job, JobOptions
from deeper_tasks.domain.state import State

MICROSECOND = timedelta(microseconds=1)
_NULL = "NULL"

Row = Sequence[Any]

_error = msgspec.json.Decoder(tuple[int, datetime, ErrorReport])
_line = msgspec.json.Decoder(str)
_BEYOND_CALENDAR = frozenset({BeyondCalendar})


def to_json(value: Any) -> str:
    """Return a value of the domain as JSON text."""
    return msgspec.json.encode(value).decode()


def duration(delay: timedelta) -> int:
    """Return a duration in microseconds."""
    return delay // MICROSECOND


def plain(text: str) -> str:
    """Return text in which the one character that PostgreSQL cannot store is replaced."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def moment_text(moment: datetime | None) -> str | None:
    """Return a moment in the form that PostgreSQL reads with all settings of a session."""
    return None if moment is None else moment.isoformat()


def array(values: Iterable[object]) -> str:
    """
    Return values that need no quotes as an array literal: numbers, booleans, ids.

    A column is one text: every driver can send it, and none spends time on the items.
    """
    return "{" + ",".join([_NULL if value is None else str(value) for value in values]) + "}"


def id_array(ids: Iterable[JobId]) -> str:
    """Return ids as an array literal."""
    return "{" + ",".join(ids) + "}"


def text_array(values: Iterable[str | None]) -> str:
    """Return any texts as an array literal."""
    values = list(values)
    if values and None not in values:
        # All at once, because to quote each text by itself takes several times as long.
        text = '","'.join(values)  # type: ignore[arg-type]
        if "\\" not in text and text.count('"') == 2 * (len(values) - 1):
            return plain(f'{{"{text}"}}')
    return plain("{" + ",".join([_NULL if value is None else _quoted(value) for value in values]) + "}")


def optional_array(values: Sequence[object]) -> str | None:
    """Return values as `array` does; None if all of them are None."""
    return None if values.count(None) == len(values) else array(values)


def optional_text_array(values: Sequence[str | None]) -> str | None:
    """Return texts as `text_array` does; None if all of them are None."""
    return None if values.count(None) == len(values) else text_array(values)


def _quoted(value: str) -> str:
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if '"' in value:
        value = value.replace('"', '\\"')
    return f'"{value}"'


def options_document(options: JobOptions) -> str | None:
    """Return a job's options as JSON text; None if none is set, which is the usual case."""
    return None if options == NO_OPTIONS else to_json(options)


def read_moment(field: str, moment: datetime, reading: Reading) -> datetime:
    """Return the moment, or the end of the calendar if it lies beyond that."""
    if isinstance(moment, BeyondCalendar):
        reading.note(field, f"{moment.stored} lies outside of the calendar")
        return datetime.combine(moment.date(), moment.time(), moment.tzinfo)
    return moment


def read_optional_moment(field: str, moment: datetime | None, reading: Reading) -> datetime | None:
    """Do the same for a moment that may be NULL."""
    return None if moment is None else read_moment(field, moment, reading)


JOB_COLUMNS = (
    "job.id::text, job.state, job.task, job.arguments, job.queue, job.priority, job.attempt, job.max_attempts, "
    "job.inserted_at, job.scheduled_at, job.attempted_at, job.finished_at, job.expires_at, "
    "(SELECT node.id FROM node WHERE node.number = job.node AND job.state = 4), job.options, job.unique_key, "
    "job.cancel_requested, job.errors, job.progress, job.log, job.result, job.result_omitted, "
    "job.unknown_since, job.unfit_since, job.original_max_attempts, job.is_quarantined IS NOT NULL"
)
"""The columns that `to_job` reads, in its order."""


def to_job(row: Row) -> Job:
    """Read a whole job from a row of `JOB_COLUMNS`. `Job.damage` lists the parts that cannot be read."""
    if _BEYOND_CALENDAR.isdisjoint(map(type, row)) and are_attempts(row[6], row[7], row[24]):
        try:
            return _to_sound_job(row)
        except UNREADABLE:
            pass
    return _to_damaged_job(row)


def _to_sound_job(row: Row) -> Job:
    errors, progress, log = row[17], row[18], row[19]
    is_running = row[1] == CODES[State.RUNNING]
    return Job(
        id=JobId(row[0]),
        state=STATES[row[1]],
        task=row[2],
        arguments=row[3],
        queue=row[4],
        priority=row[5],
        attempt=row[6],
        max_attempts=row[7],
        inserted_at=row[8],
        scheduled_at=row[9],
        attempted_at=row[10],
        finished_at=row[11],
        expires_at=row[12],
        node=NodeId(row[13]) if is_running and row[13] is not None else None,
        options=to_options(row[14]),
        unique_key=row[15],
        cancel_requested=row[16],
        errors=tuple(map(_to_error, errors)) if errors else (),
        progress=to_progress(progress),
        log=tuple(map(_to_line, log)) if log else (),
        result=row[20],
        result_omitted=row[21],
        unknown_since=row[22],
        unfit_since=row[23],
        is_quarantined=row[25],
    )


def _to_damaged_job(row: Row) -> Job:
    reading = Reading()
    job = Job(
        id=JobId(row[0]),
        state=reading.state(row[1]),
        task=row[2],
        arguments=row[3],
        queue=row[4],
        priority=row[5],
        attempt=row[6],
        max_attempts=row[7],
        inserted_at=read_moment("inserted_at", row[8], reading),
        scheduled_at=read_moment("scheduled_at", row[9], reading),
        attempted_at=read_optional_moment("attempted_at", row[10], reading),
        finished_at=read_optional_moment("finished_at", row[11], reading),
        expires_at=read_optional_moment("expires_at", row[12], reading),
        node=NodeId(row[13]) if row[1] == CODES[State.RUNNING] and row[13] is not None else None,
        options=reading.options(row[14]),
        unique_key=row[15],
        cancel_requested=row[16],
        errors=reading.parts("errors", row[17] or (), _to_error),
        progress=reading.progress(row[18]),
        log=reading.parts("log", row[19] or (), _to_line),
        result=row[20],
        result_omitted=row[21],
        unknown_since=read_optional_moment("unknown_since", row[22], reading),
        unfit_since=read_optional_moment("unfit_since", row[23], reading),
        is_quarantined=row[25],
    )
    reading.attempts(row[6], row[7], row[24])
    return msgspec.structs.replace(job, damage=tuple(reading.damage))


def _to_error(entry: str) -> AttemptError:
    attempt, at, error = _error.decode(entry)
    return error.kept(attempt=attempt, at=at)


def _to_line(entry: str) -> str:
    return _line.decode(entry)


def to_damaged_claim(job: ClaimedJob, options: str | None, *, are_attempts_known: bool) -> ClaimedJob:
    """
    Return a claimed job from a row of which a part cannot be read, with the damage.

    `are_attempts_known`: whether the numbers of its attempts are valid.
    """
    reading = Reading()
    if not are_attempts_known:
        are_others_sound = are_attempts(job.attempt - 1, job.max_attempts, 1)
        reading.attempts(job.attempt - 1, job.max_attempts, 0 if are_others_sound else 1)
    return msgspec.structs.replace(
        job,
        inserted_at=read_moment("inserted_at", job.inserted_at, reading),
        scheduled_at=read_moment("scheduled_at", job.scheduled_at, reading),
        expires_at=read_optional_moment("expires_at", job.expires_at, reading),
        unknown_since=read_optional_moment("unknown_since", job.unknown_since, reading),
        unfit_since=read_optional_moment("unfit_since", job.unfit_since, reading),
        options=reading.options(options) if options else None,
        damage=tuple(reading.damage),
    )
