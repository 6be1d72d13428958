"""Insert jobs, each id once and each unique key held by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.sqlite import transitions
from deeper_tasks.backends.sqlite.codec import LAST_MOMENT, later, micros, options_document, to_json
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Insertion, NewJob
from deeper_tasks.domain.transitions import state_of_new
from deeper_tasks.errors import DuplicateJobError

# Expressions: a caller's connection may have a converter for columns of type TEXT.
SELECT_KNOWN = """
SELECT job.id || '', job.task || '', job.arguments || ''
FROM json_each(?) AS sent JOIN deeper_job AS job ON job.id = sent.value
"""


def insert(connection: Statements, jobs: Sequence[NewJob], *, now: int) -> list[Insertion]:
    """Insert jobs; see `Backend.insert`. The connection may be a cursor of the caller's."""
    known = _known(connection, jobs)
    answers: list[Insertion] = []
    rows: list[transitions.NewRow] = []
    entered: Counter[tuple[str, int]] = Counter()
    for job in jobs:
        content = (job.spec.task, job.spec.arguments)
        existing = known.setdefault(job.request_id, content)
        if existing is not content:
            answers.append(_existing(job, is_same=existing == content))
            continue
        if job.unique is not None:
            holder = transitions.take_key(connection, job.unique, job.request_id, now=now)
            if holder != job.request_id:
                del known[job.request_id]
                answers.append(Insertion(id=holder, is_new=False))
                continue
        due = _due(job, now)
        state = CODES[state_of_new(is_due=due <= now)]
        rows.append(_row(job, state, due, now))
        entered[job.spec.queue, state] += 1
        answers.append(Insertion(id=job.request_id, is_new=True))
    transitions.insert(connection, rows, entered=entered, now=now)
    return answers


def _known(connection: Statements, jobs: Sequence[NewJob]) -> dict[JobId, tuple[str, str]]:
    rows = connection.execute(SELECT_KNOWN, (to_json([job.request_id for job in jobs]),))
    return {JobId(job_id): (task, arguments) for job_id, task, arguments in rows}


def _existing(job: NewJob, *, is_same: bool) -> Insertion:
    if not is_same:
        raise DuplicateJobError(
            f"a job with the id {job.request_id!r} exists already, with another task or other arguments",
            request_id=job.request_id,
        )
    return Insertion(id=job.request_id, is_new=False)


def _due(job: NewJob, now: int) -> int:
    if job.due is not None:
        return max(min(micros(job.due), LAST_MOMENT), now)
    return max(later(now, job.delay), now)


def _row(job: NewJob, state: int, due: int, now: int) -> transitions.NewRow:
    spec = job.spec
    return (
        job.request_id,
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
