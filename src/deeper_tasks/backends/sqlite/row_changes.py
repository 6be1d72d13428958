"""Row changes: how the changes that the kernel decides are written into the rows of jobs, one statement for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.sqlite.codec import duration, later, moment, to_json
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import MAX_KEPT_ERRORS, ErrorReport
from deeper_tasks.domain.transitions import Change

WRITE = f"""
UPDATE deeper_job SET
    state = json_extract(change.value, '$[1]'),
    attempt = max(attempt - json_extract(change.value, '$[2]'), 0),
    finished_at = json_extract(change.value, '$[3]'),
    scheduled_at = coalesce(json_extract(change.value, '$[4]'), scheduled_at),
    attempted_at = coalesce(:now - json_extract(change.value, '$[5]'), attempted_at),
    errors = CASE
        WHEN json_extract(change.value, '$[6]') IS NULL THEN errors
        -- The list is damaged: a new one begins.
        WHEN NOT json_valid(errors) THEN json_array(json(json_extract(change.value, '$[6]')))
        WHEN json_type(errors) <> 'array' THEN json_array(json(json_extract(change.value, '$[6]')))
        WHEN json_array_length(errors) >= {MAX_KEPT_ERRORS}
            THEN json_insert(json_remove(errors, '$[0]'), '$[#]', json(json_extract(change.value, '$[6]')))
        ELSE json_insert(coalesce(errors, '[]'), '$[#]', json(json_extract(change.value, '$[6]')))
    END,
    token = iif(json_extract(change.value, '$[7]'), NULL, token),
    led_to = coalesce(json_extract(change.value, '$[8]'), led_to),
    unknown_since = CASE
        WHEN json_extract(change.value, '$[10]') = 1 THEN coalesce(unknown_since, :now)
        WHEN NOT json_extract(change.value, '$[9]') THEN unknown_since
    END,
    unfit_since = CASE
        WHEN json_extract(change.value, '$[10]') = 2 THEN coalesce(unfit_since, :now)
        WHEN NOT json_extract(change.value, '$[9]') THEN unfit_since
    END,
    is_quarantined = CASE
        WHEN json_extract(change.value, '$[10]') = 3 THEN 1
        WHEN NOT json_extract(change.value, '$[9]') THEN is_quarantined
    END
FROM json_each(:batch) AS change
WHERE deeper_job.rowid = json_extract(change.value, '$[0]')
"""


class Row(Protocol):
    """A job as it was read, before its change."""

    @property
    def rowid(self) -> int:
        """Its place in the table."""

    @property
    def id(self) -> JobId:
        """Its id."""

    @property
    def queue(self) -> str:
        """Its queue."""

    @property
    def state(self) -> int:
        """The code of the state that it leaves."""

    @property
    def unique_key(self) -> str | None:
        """The key that it holds, or once held."""


class AttemptRow(Row, Protocol):
    """The same with the number of its attempt."""

    @property
    def attempt(self) -> int:
        """The attempt that the change is about."""


class RowChange(NamedTuple):
    """The change of one job, with the values of the act that it takes: delay, error and time that the handler ran."""

    job: AttemptRow
    change: Change
    delay: timedelta = timedelta(0)
    error: ErrorReport | None = None
    ran_for: timedelta | None = None


def write(connection: Statements, changes: Sequence[RowChange], *, now: int) -> None:
    """Write the changes of jobs that stay."""
    connection.execute(WRITE, {"now": now, "batch": to_json([_values(each, now) for each in changes])})


def _values(each: RowChange, now: int) -> tuple[int | str | None, ...]:
    """Return what `WRITE` reads of a change, by the places in its JSON arrays."""
    job, change, error = each.job, each.change, each.error
    assert change.state is not None
    state = CODES[change.state]
    return (
        job.rowid,
        state,
        change.attempts_taken_back,
        now if change.finishes else None,
        later(now, each.delay) if change.is_put_off else None,
        None if each.ran_for is None else duration(each.ran_for),
        to_json(error.kept(attempt=job.attempt, at=moment(now))) if error is not None and change.keeps_error else None,
        change.drops_token,
        state if change.answers_token else None,
        change.clears_marks,
        change.mark,
    )
