"""
A listing: a page of jobs in an order, found without reading the jobs of other pages.

The counters say which index ranges have jobs. Each range is scanned from its first job, along an index that has the
list's order, no further than the page reaches, and the results are merged; one statement does so for all. Only running
jobs, and in an order by `finished_at` the jobs that have not ended, are all read and sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.postgres.codec import JOB_COLUMNS, array, moment_text, read_moment, to_job
from deeper_tasks.backends.postgres.counters import Counts, counts_of
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.postgres.filters import IS_NAMED, where, where_content
from deeper_tasks.backends.postgres.index_ranges import (
    ALL_RUNNING,
    BY_END,
    ENDED,
    ENDED_AT_ONCE,
    ENDED_LINES,
    MOVED,
    MOVED_LINES,
    MOVED_TO,
    NO_LINES,
    OF_PENDING,
    PENDING,
    PENDING_LINES,
    RANKED_LINES,
    RUNNING,
    WAITING,
    WAITING_LINES,
    Scope,
    values_of,
    within,
)
from deeper_tasks.backends.postgres.moments import BeyondCalendar
from deeper_tasks.backends.protocol import Cursor, JobList, JobQuery, SortKey
from deeper_tasks.backends.reading import Reading
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.paging import MOST_COUNTED, MOST_LOOKED_AT, Total, counted, cut, reconciled

WALK = """
SELECT found.key, found.id FROM {lines} CROSS JOIN LATERAL (
    SELECT job.{column} AS key, job.id FROM job
    WHERE {scope} AND {range} AND {condition}
    ORDER BY job.{column} {order}, job.id {order}
    LIMIT %(wanted)s
) AS found
"""
GATHER = """
SELECT found.key, found.id FROM {lines} CROSS JOIN LATERAL (
    SELECT {key} AS key, job.id FROM job WHERE {scope} AND {condition} ORDER BY {order}
) AS found
WHERE {range}
"""
SELECT_PLACES = """
SELECT place.key, place.id::text FROM ({ways}) AS place
ORDER BY place.key {order} NULLS LAST, place.id {order}
OFFSET %(offset)s LIMIT %(limit)s
"""
SELECT_NAMED_PLACES = """
SELECT job.{column}, job.id::text FROM job
WHERE {range} AND {condition}
ORDER BY job.{column} {order} NULLS LAST, job.id {order}
OFFSET %(offset)s LIMIT %(limit)s
"""
SELECT_JOBS = f"SELECT {JOB_COLUMNS} FROM job WHERE {IS_NAMED}"
LOOK_AT = """
SELECT found.task, found.options, found.attempted_at FROM {lines} CROSS JOIN LATERAL (
    SELECT job.task, job.options, job.attempted_at FROM job WHERE {scope} ORDER BY {order}
) AS found
"""
COUNT = """
SELECT count(*) FROM (
    SELECT FROM (SELECT * FROM ({ways}) AS line LIMIT %(most)s) AS job WHERE {condition} LIMIT %(counted)s
) AS matching
"""
COUNT_NAMED = "SELECT count(*) FROM job WHERE {condition}"

_AT_ONCE = " AND job.scheduled_at = job.inserted_at"

_Place = tuple[Any, str]
"""The value of a job's sort key, and the job's id."""


class IndexScan(NamedTuple):
    """A scan to the jobs of these states, along these index ranges. `column`, if given, has the list's order."""

    states: frozenset[int]
    lines: str
    scope: Scope
    column: str | None = None


_TO_RUNNING = IndexScan(frozenset({RUNNING}), NO_LINES, ALL_RUNNING)
_OF_RANK = f"{OF_PENDING.condition} AND job.priority = rank.priority"

# For each order, scans that together lead to every job. Each job is in one of them.
WAYS = {
    SortKey.INSERTED_AT: (
        _TO_RUNNING,
        IndexScan(frozenset({PENDING}), RANKED_LINES, Scope(_OF_RANK + _AT_ONCE, "job.scheduled_at"), "scheduled_at"),
        IndexScan(WAITING | ENDED | {PENDING}, MOVED_LINES, MOVED, "inserted_at"),
        IndexScan(ENDED, ENDED_LINES, ENDED_AT_ONCE, "inserted_at"),
    ),
    SortKey.SCHEDULED_AT: (
        _TO_RUNNING,
        IndexScan(frozenset({PENDING}), RANKED_LINES, Scope(_OF_RANK, "job.scheduled_at"), "scheduled_at"),
        IndexScan(WAITING | ENDED, MOVED_LINES, MOVED_TO, "scheduled_at"),
        IndexScan(ENDED, ENDED_LINES, ENDED_AT_ONCE, "inserted_at"),
    ),
    SortKey.FINISHED_AT: (IndexScan(ENDED, ENDED_LINES, BY_END, "finished_at"),),
}
UNFINISHED = (
    _TO_RUNNING,
    IndexScan(frozenset({PENDING}), PENDING_LINES, OF_PENDING),
    IndexScan(WAITING, WAITING_LINES, MOVED_TO),
)
"""The scans of the jobs without `finished_at`: in an order by it they come last, sorted by their ids."""
BY_LINE = (*UNFINISHED, *WAYS[SortKey.FINISHED_AT])


async def find(transaction: Transaction, query: JobQuery) -> JobList:
    """Return a page of jobs; see `Backend.find`."""
    search = _Search(transaction, query)
    counts = {} if query.filter.ids is not None else _matching(await counts_of(transaction), query)
    total = await search.total(counts)
    places: list[_Place] = []
    if not total.is_exact or query.offset < total.number:
        places = await search.named() if query.filter.ids is not None else await search.page(counts)
    page = cut(places, limit=query.limit)
    jobs = await _read(transaction, page.items)
    total = reconciled(total, offset=query.offset, on_page=len(jobs))
    return JobList(
        jobs=jobs,
        total=total.number,
        total_is_exact=total.is_exact,
        next=None if page.end is None else _cursor_of(*page.end),
    )


def _cursor_of(key: datetime | None, job_id: str) -> Cursor:
    if isinstance(key, BeyondCalendar):
        return Cursor(value=read_moment("key", key, Reading()), id=JobId(job_id), stored=key.stored)
    return Cursor(value=key, id=JobId(job_id))


def _matching(counts: Counts, query: JobQuery) -> Counts:
    states = query.filter.states
    matching = within(counts, CODES.values() if states is None else {CODES[state] for state in states})
    return {line: count for line, count in matching.items() if query.filter.queue in {None, line[0]}}


async def _read(transaction: Transaction, places: Sequence[_Place]) -> tuple[Job, ...]:
    if not places:
        return ()
    rows = await transaction.rows(SELECT_JOBS, {"ids": array(job_id for _, job_id in places)})
    jobs = {row[0]: to_job(row) for row in rows}
    return tuple(jobs[job_id] for _, job_id in places)


class _Search:
    """The search for the page of one query."""

    def __init__(self, transaction: Transaction, query: JobQuery) -> None:
        self._transaction = transaction
        self._query = query
        self._order, self._follows = ("DESC", "<") if query.is_descending else ("ASC", ">")
        self._condition, values = where_content(query.filter)
        after = query.after
        self._values = {
            **values,
            "at": None if after is None else after.stored or moment_text(after.value),
            "after_id": None if after is None else after.id,
            "offset": query.offset,
            "limit": query.limit + 1,
            "wanted": query.offset + query.limit + 1,
        }

    async def total(self, counts: Counts) -> Total:
        """Return the number of jobs that match."""
        if self._query.filter.ids is not None:
            condition, values = where(self._query.filter)
            [(total,)] = await self._transaction.rows(COUNT_NAMED.format(condition=condition), values)
            return Total(total, is_exact=True)
        size = sum(counts.values())
        if self._condition == "TRUE" or not size:
            return Total(size, is_exact=True)
        ways = [
            LOOK_AT.format(lines=way.lines, scope=way.scope.condition, order=way.scope.order)
            for way in BY_LINE
            if within(counts, way.states)
        ]
        statement = COUNT.format(ways=" UNION ALL ".join(ways), condition=self._condition)
        most = {"most": MOST_LOOKED_AT, "counted": MOST_COUNTED + 1}
        [(number,)] = await self._transaction.rows(statement, {**self._values, **values_of(counts), **most})
        return counted(number, was_all_seen=size <= MOST_LOOKED_AT)

    async def named(self) -> list[_Place]:
        """Return the places of the page of the jobs that the filter names, and one more if there is another page."""
        condition, values = where(self._query.filter)
        column = self._query.sort_by.value
        statement = SELECT_NAMED_PLACES.format(
            column=column, range=self._range_of_all(column), condition=condition, order=self._order
        )
        return await self._places(statement, values)

    async def page(self, counts: Counts) -> list[_Place]:
        """Return the places of the page along these lines, and one more if there is another page."""
        key, after, values = self._query.sort_by, self._query.after, values_of(counts)
        timed, untimed = list(self._timed(counts)), list(self._untimed(counts))
        if after is not None and after.value is None:
            return await self._merged(untimed, values)
        places = await self._merged(timed, values)
        missing = self._query.limit + 1 - len(places)
        if key is not SortKey.FINISHED_AT or not missing or not untimed:
            return places
        if self._query.offset and not places:
            # The number of ended jobs on earlier pages is not known.
            return await self._merged([*timed, *untimed], values)
        return places + await self._merged(untimed, {**values, "offset": 0, "limit": missing})

    def _timed(self, counts: Counts) -> Iterator[str]:
        for way in WAYS[self._query.sort_by]:
            if not within(counts, way.states):
                continue
            if way.column is None:
                key = self._query.sort_by.value
                yield self._gathering(way, key=f"job.{key}", condition=self._range_of("found.key", "found.id"))
            else:
                yield WALK.format(
                    lines=way.lines,
                    scope=way.scope.condition,
                    column=way.column,
                    range=self._range_of(f"job.{way.column}", "job.id"),
                    condition=self._condition,
                    order=self._order,
                )

    def _untimed(self, counts: Counts) -> Iterator[str]:
        for way in UNFINISHED:
            if self._query.sort_by is SortKey.FINISHED_AT and within(counts, way.states):
                yield self._gathering(way, key="NULL::timestamptz", condition=self._range_of_untimed("found.id"))

    def _gathering(self, way: IndexScan, *, key: str, condition: str) -> str:
        return GATHER.format(
            lines=way.lines,
            key=key,
            scope=way.scope.condition,
            condition=self._condition,
            order=way.scope.order,
            range=condition,
        )

    def _range_of(self, key: str, job_id: str) -> str:
        """Return the condition for jobs after the cursor that have a time."""
        if self._query.after is None:
            return "TRUE"
        return f"({key}, {job_id}) {self._follows} (%(at)s::timestamptz, %(after_id)s::uuid)"

    def _range_of_untimed(self, job_id: str) -> str:
        """Return the condition for jobs after the cursor that have no time."""
        if self._query.after is None or self._query.after.value is not None:
            return "TRUE"
        return f"{job_id} {self._follows} %(after_id)s::uuid"

    def _range_of_all(self, column: str) -> str:
        if self._query.after is not None and self._query.after.value is None:
            return f"job.{column} IS NULL AND {self._range_of_untimed('job.id')}"
        return f"(job.{column} IS NULL OR {self._range_of(f'job.{column}', 'job.id')})"

    async def _merged(self, ways: list[str], values: dict[str, Any]) -> list[_Place]:
        if not ways:
            return []
        return await self._places(SELECT_PLACES.format(ways=" UNION ALL ".join(ways), order=self._order), values)

    async def _places(self, statement: str, values: dict[str, Any]) -> list[_Place]:
        return [(key, job_id) for key, job_id in await self._transaction.rows(statement, {**self._values, **values})]
