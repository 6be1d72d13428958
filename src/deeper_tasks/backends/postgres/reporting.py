"""Reporting: writes the news of running attempts: their start, progress and log lines."""

from __future__ import annotations

from collections.abc import Sequence

from deeper_tasks.backends.postgres.codec import array, text_array, to_json
from deeper_tasks.backends.postgres.database import Database
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import MAX_KEPT_LOG_LINES
from deeper_tasks.domain.settlement import Report

REPORT = (
    "SELECT place FROM {schema}.report("
    "%(now)s::timestamptz, %(ids)s::uuid[], %(tokens)s::text[], %(have_started)s::boolean[], %(progress)s::text[], "
    "%(lines)s::text[], %(most_lines)s::text::integer)"
)


async def report(database: Database, reports: Sequence[Report], *, now: str | None) -> list[JobId]:
    """Write the reports of running attempts; see `Backend.report`."""
    if not reports:
        return []
    sent = sorted(enumerate(reports), key=lambda numbered: numbered[1].id)
    rows = await database.call(REPORT, values_of([one for _, one in sent], now=now))
    return [reports[place].id for place in sorted(sent[row[0] - 1][0] for row in rows)]


def values_of(sent: Sequence[Report], *, now: str | None) -> dict[str, str | None]:
    """Return the parameters of `REPORT`."""
    return {
        "now": now,
        "ids": array(one.id for one in sent),
        "tokens": text_array(one.token for one in sent),
        "have_started": array(one.has_started for one in sent),
        "progress": text_array(None if one.progress is None else to_json(one.progress) for one in sent),
        "lines": text_array(to_json(one.lines) if one.lines else None for one in sent),
        "most_lines": str(MAX_KEPT_LOG_LINES),
    }
