"""A listing: which records a filter means, and a page of them in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from heapq import nlargest, nsmallest
from itertools import islice

from deeper_tasks.backends.memory.job_table import JobTable
from deeper_tasks.backends.memory.record import Record
from deeper_tasks.backends.protocol import Cursor, JobFilter, JobList, JobQuery, SortKey
from deeper_tasks.domain.ids import JobId

_COUNTED = 10_000
_NEVER = datetime.min.replace(tzinfo=UTC)

_Place = tuple[bool, datetime, JobId]


def matching(table: JobTable, target: JobFilter) -> Iterator[Record]:
    """Yield the records meant, those named by id in that order, without a repeat."""
    records: Iterable[Record] = table.of(queue=target.queue, states=target.states)
    if target.ids is not None:
        records = [table.records[job_id] for job_id in dict.fromkeys(target.ids) if job_id in table.records]
    return (record for record in records if _is_meant(record, target))


def page(table: JobTable, query: JobQuery) -> JobList:
    """Return a page; jobs without the time that is sorted by come last, whatever the direction."""
    is_descending = query.is_descending
    places = (
        (_place(getattr(record, query.sort_by.value), record.id, is_descending=is_descending), record)
        for record in matching(table, query.filter)
    )
    if query.after is not None:
        seen = _place(query.after.value, query.after.id, is_descending=is_descending)
        places = (entry for entry in places if (entry[0] < seen if is_descending else entry[0] > seen))
    first = nlargest if is_descending else nsmallest
    found = first(query.offset + query.limit + 1, places, key=lambda entry: entry[0])[query.offset :]
    jobs = tuple(record.as_job() for _, record in found[: query.limit])
    total, is_exact = _total(table, query.filter)
    return JobList(
        jobs=jobs,
        total=total,
        total_is_exact=is_exact,
        next=_cursor(found[query.limit - 1][1], query.sort_by) if jobs and len(found) > query.limit else None,
    )


def _is_meant(record: Record, target: JobFilter) -> bool:
    spec = record.spec
    return target.matches(
        state=record.state,
        queue=spec.queue,
        task=spec.task,
        options=spec.options,
        has_begun=record.attempted_at is not None,
    )


def _total(table: JobTable, target: JobFilter) -> tuple[int, bool]:
    if target == JobFilter(queue=target.queue, states=target.states):
        return table.counters.total(queue=target.queue, states=target.states), True
    count = sum(1 for _ in islice(matching(table, target), _COUNTED + 1))
    return min(count, _COUNTED), count <= _COUNTED


def _place(value: datetime | None, job_id: JobId, *, is_descending: bool) -> _Place:
    return ((value is None) != is_descending, value or _NEVER, job_id)


def _cursor(record: Record, sort_by: SortKey) -> Cursor:
    return Cursor(value=getattr(record, sort_by.value), id=record.id)
