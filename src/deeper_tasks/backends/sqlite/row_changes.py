"""Row changes: what an attempt, a rescue or an expiry changes in the row of a job; one statement for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from deeper_tasks.backends.codes import Mark
from deeper_tasks.backends.sqlite.codec import moment, to_json
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.domain.job import MAX_KEPT_ERRORS, ErrorReport

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
    led_to = coalesce(json_extract(change.value, '$[9]'), led_to),
    unknown_since = CASE
        WHEN json_extract(change.value, '$[8]') = 1 THEN coalesce(unknown_since, :now)
        WHEN json_extract(change.value, '$[5]') IS NULL THEN unknown_since
    END,
    unfit_since = CASE
        WHEN json_extract(change.value, '$[8]') = 2 THEN coalesce(unfit_since, :now)
        WHEN json_extract(change.value, '$[5]') IS NULL THEN unfit_since
    END,
    is_quarantined = CASE
        WHEN json_extract(change.value, '$[8]') = 3 THEN 1
        WHEN json_extract(change.value, '$[5]') IS NULL THEN is_quarantined
    END
FROM json_each(:batch) AS change
WHERE deeper_job.rowid = json_extract(change.value, '$[0]')
"""


class RowChange(NamedTuple):
    """What changes in the row of a job; its fields stand in the order in which `WRITE` reads them."""

    rowid: int
    state: int
    attempts_taken_back: int = 0
    finished_at: int | None = None
    scheduled_at: int | None = None
    ran_for: int | None = None
    error: str | None = None
    drops_token: bool = False
    mark: Mark | None = None
    led_to: int | None = None


def write(connection: Statements, changes: Sequence[RowChange], *, now: int) -> None:
    """Write the changes."""
    connection.execute(WRITE, {"now": now, "batch": to_json(changes)})


def error_document(error: ErrorReport, *, attempt: int, now: int) -> str:
    """Return a failed attempt as the JSON text that is appended to the job's errors."""
    return to_json(error.kept(attempt=attempt, at=moment(now)))
