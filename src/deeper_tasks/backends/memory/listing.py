"""A listing: the records that match a filter, and a page of them in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from heapq import nlargest, nsmallest
from itertools import islice

from deeper_tasks.backends.memory.job_table import JobTable
from deeper_tasks.backends.memory.record import Record
from deeper_tasks.backends.protocol import Cursor, JobFilter, JobList, JobQuery, SortKey
from deeper_tasks.domain.ids import JobId, known_ids
from deeper_tasks.domain.paging import MOST_COUNTED, Total, counted, cut, reconciled

_NEVER = datetime.min.replace(tzinfo=UTC)

_Position = tuple[bool, datetime, JobId]


def matching(table: JobTable, target: JobFilter) -> Iterator[Record]:
    """Yield the records that match a filter, each once; those that it names by id come in its order."""
    records: Iterable[Record] = table.of(queue=target.queue, states=target.states)
    if target.ids is not None:
        records = [table.records[job_id] for job_id in dict.fromkeys(known_ids(target.ids)) if job_id in table.records]
    return (record for record in records if _matches(record, target))


def page(table: JobTable, query: JobQuery) -> JobList:
    """Return a page; jobs without the time that is sorted by come last, whatever the direction."""
    is_descending = query.is_descending
    positions = (
        (_position(getattr(record, query.sort_by.value), record.id, is_descending=is_descending), record)
        for record in matching(table, query.filter)
    )
    if query.after is not None:
        seen = _position(query.after.value, query.after.id, is_descending=is_descending)
        positions = (entry for entry in positions if (entry[0] < seen if is_descending else entry[0] > seen))
    first = nlargest if is_descending else nsmallest
    found = first(query.offset + query.limit + 1, positions, key=lambda entry: entry[0])[query.offset :]
    part = cut(found, limit=query.limit)
    total = reconciled(_total(table, query.filter), offset=query.offset, on_page=len(part.items))
    return JobList(
        jobs=tuple(record.as_job() for _, record in part.items),
        total=total.number,
        total_is_exact=total.is_exact,
        next=None if part.end is None else _cursor(part.end[1], query.sort_by),
    )


def _matches(record: Record, target: JobFilter) -> bool:
    spec = record.spec
    return target.matches(
        state=record.state,
        queue=spec.queue,
        task=spec.task,
        options=spec.options,
        has_begun=record.attempted_at is not None,
    )


def _total(table: JobTable, target: JobFilter) -> Total:
    if target == JobFilter(queue=target.queue, states=target.states):
        return Total(table.counters.total(queue=target.queue, states=target.states), is_exact=True)
    return counted(sum(1 for _ in islice(matching(table, target), MOST_COUNTED + 1)))


def _position(value: datetime | None, job_id: JobId, *, is_descending: bool) -> _Position:
    return ((value is None) != is_descending, value or _NEVER, job_id)


def _cursor(record: Record, sort_by: SortKey) -> Cursor:
    return Cursor(value=getattr(record, sort_by.value), id=record.id)
