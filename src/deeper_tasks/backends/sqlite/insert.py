"""Insert jobs, each id once and each unique key held by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.sqlite import counters, unique_keys
from deeper_tasks.backends.sqlite.codec import LAST_MOMENT, later, micros, options_document, to_json
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Insertion, NewJob
from deeper_tasks.domain.state import State
from deeper_tasks.errors import DuplicateJobError

_COLUMNS = (
    "id, state, task, arguments, queue, priority, max_attempts, original_max_attempts, "
    "inserted_at, scheduled_at, expires_at, options, unique_key"
)
_PARAMETERS = f"({', '.join('?' * len(_COLUMNS.split(',')))})"
_ROWS_A_STATEMENT = 500

# Expressions, for a connection of a caller's may have a converter for columns of TEXT.
SELECT_KNOWN = """
SELECT job.id || '', job.task || '', job.arguments || ''
FROM json_each(?) AS sent JOIN deeper_job AS job ON job.id = sent.value
"""

Row = tuple[str | int | None, ...]


def insert(connection: Statements, jobs: Sequence[NewJob], *, now: int) -> list[Insertion]:
    """Insert jobs; see `Backend.insert`. The connection may be ours, or a cursor of the caller's."""
    known = _known(connection, jobs)
    answers: list[Insertion] = []
    rows: list[Row] = []
    moves: Counter[counters.Move] = Counter()
    for job in jobs:
        content = (job.spec.task, job.spec.arguments)
        existing = known.setdefault(job.id, content)
        if existing is not content:
            answers.append(_existing(job, is_same=existing == content))
            continue
        if job.unique is not None:
            holder = unique_keys.take(connection, job.unique, job.id, now=now)
            if holder != job.id:
                del known[job.id]
                answers.append(Insertion(id=holder, is_new=False))
                continue
        due = _due(job, now)
        state = CODES[State.PENDING if due <= now else State.SCHEDULED]
        rows.append(_row(job, state, due, now))
        moves[job.spec.queue, None, state] += 1
        answers.append(Insertion(id=job.id, is_new=True))
    _write(connection, rows)
    counters.count_moves(connection, moves, now=now)
    return answers


def _known(connection: Statements, jobs: Sequence[NewJob]) -> dict[JobId, tuple[str, str]]:
    rows = connection.execute(SELECT_KNOWN, (to_json([job.id for job in jobs]),))
    return {JobId(job_id): (task, arguments) for job_id, task, arguments in rows}


def _existing(job: NewJob, *, is_same: bool) -> Insertion:
    if not is_same:
        raise DuplicateJobError(
            f"a job with the id {job.id!r} exists already, with another task or other arguments", job_id=job.id
        )
    return Insertion(id=job.id, is_new=False)


def _due(job: NewJob, now: int) -> int:
    if job.due is not None:
        return max(min(micros(job.due), LAST_MOMENT), now)
    return later(now, job.delay)


def _row(job: NewJob, state: int, due: int, now: int) -> Row:
    spec = job.spec
    return (
        job.id,
        state,
        spec.task,
        spec.arguments,
        spec.queue,
        spec.priority,
        spec.max_attempts,
        spec.max_attempts,
        now,
        due,
        None if spec.expires_in is None else later(due, spec.expires_in),
        options_document(spec.options),
        None if job.unique is None else job.unique.key,
    )


def _write(connection: Statements, rows: list[Row]) -> None:
    # One statement for many rows, not executemany: each step of a statement lets go of the interpreter's lock,
    # and taking it back from a busy thread costs milliseconds.
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        chunk = rows[start : start + _ROWS_A_STATEMENT]
        connection.execute(insert_statement(len(chunk)), [value for row in chunk for value in row])


@lru_cache(maxsize=_ROWS_A_STATEMENT)
def insert_statement(rows: int) -> str:
    """Return the statement that inserts this many jobs."""
    return f"INSERT INTO deeper_job ({_COLUMNS}) VALUES {', '.join([_PARAMETERS] * rows)}"
