"""
A listing: a page of jobs in an order, found by reading as few rows as possible.

The jobs of each queue are either **scanned** along the index that has the list's order, leaving out those that do not
match, or **gathered** by the index of the states that match, and sorted. The counters give the numbers of jobs
beforehand: to find `wanted` of `matching` jobs among `whole` costs about `wanted * whole / matching` rows by a scan,
and `matching` rows by gathering. Where the jobs that do not match stand together (a backlog before all ended jobs), a
scan gives up after as many rows as gathering costs. A list by `finished_at` always scans the ended jobs: their index
has that order.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.protocol import Cursor, JobList, JobQuery, SortKey
from deeper_tasks.backends.reading import Reading
from deeper_tasks.backends.sqlite import index_ranges
from deeper_tasks.backends.sqlite.codec import JOB_COLUMNS, micros, read_moment, to_job, to_json
from deeper_tasks.backends.sqlite.filters import IS_IN_STATES, IS_NAMED, where, where_content
from deeper_tasks.backends.sqlite.index_ranges import IndexRange
from deeper_tasks.backends.sqlite.index_scan import (
    BEFORE_ALL,
    BEYOND_ALL,
    DOWN,
    UP,
    Content,
    IndexScan,
    Position,
    Positions,
)
from deeper_tasks.domain.ids import JobId, known_ids
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.paging import MOST_COUNTED, MOST_LOOKED_AT, Total, counted, cut, reconciled
from deeper_tasks.domain.state import AWAITS_ITS_TIME
from deeper_tasks.errors import InvalidOptionError

SELECT_JOBS = f"SELECT rowid, {JOB_COLUMNS} FROM deeper_job WHERE rowid IN (SELECT value FROM json_each(:rowids))"
COUNT = """
SELECT count(*) FROM (
    SELECT 1 FROM (SELECT task, options, attempted_at FROM deeper_job INDEXED BY {index} WHERE {scope} LIMIT :most)
    WHERE {condition} LIMIT :counted
)
"""
COUNT_NAMED = f"SELECT count(*) FROM deeper_job WHERE {IS_NAMED} AND {{condition}}"

_ALL_STATES = frozenset(CODES.values())
_WAIT_FOR_THEIR_TIME = frozenset(CODES[state] for state in AWAITS_ITS_TIME)

_IS_DUE_AT_ONCE = "scheduled_at = inserted_at"
_SCANNED_PER_GATHERED = 3
"""Neighbours in an index are mostly neighbours in the table: so many scanned rows cost as much as one gathered row."""

_HOP = 10_000
"""The most positions that are read at once on the way to a page far down."""


def find(connection: sqlite3.Connection, query: JobQuery) -> JobList:
    """Return a page of jobs; see `Backend.find`."""
    search = _Search(connection, query)
    total = search.total()
    page = cut(search.positions(total.number if total.is_exact else None), limit=query.limit)
    jobs = _read(connection, page.items)
    total = reconciled(total, offset=query.offset, on_page=len(jobs))
    return JobList(
        jobs=jobs,
        total=total.number,
        total_is_exact=total.is_exact,
        next=None if page.end is None else _cursor_of(page.end),
    )


def _read(connection: sqlite3.Connection, positions: Sequence[Position]) -> tuple[Job, ...]:
    rows = connection.execute(SELECT_JOBS, {"rowids": to_json([rowid for _, _, rowid in positions])})
    jobs = {row["rowid"]: to_job(row) for row in rows}
    return tuple(jobs[rowid] for _, _, rowid in positions)


class _Search:
    """The search for one list: which jobs match, in which order, and how many jobs each queue has in each state."""

    def __init__(self, connection: sqlite3.Connection, query: JobQuery) -> None:
        self._connection = connection
        self._query = query
        self._filter = query.filter
        self._direction = DOWN if query.is_descending else UP
        condition, values = where_content(query.filter)
        self._content = Content(condition=condition, values=values)
        self._counts = index_ranges.counts_of(connection)
        states = query.filter.states
        self._states = _ALL_STATES if states is None else frozenset(CODES[state] for state in states)

    # how many

    def total(self) -> Total:
        """Return the number of jobs that match."""
        if self._filter.ids is not None:
            condition, values = where(msgspec.structs.replace(self._filter, ids=None))
            values["ids"] = to_json(known_ids(self._filter.ids))
            number = self._connection.execute(COUNT_NAMED.format(condition=condition), values).fetchone()[0]
            return Total(number, is_exact=True)
        if self._content.condition == "TRUE":
            return Total(sum(index_range.count for index_range in self._ranges(self._states)), is_exact=True)
        return self._count_content()

    def _count_content(self) -> Total:
        number, left = 0, MOST_LOOKED_AT
        for index_range in self._ranges(self._states):
            if left <= 0 or number > MOST_COUNTED:
                return counted(number, was_all_seen=False)
            statement = COUNT.format(
                index=index_range.index, scope=index_range.scope, condition=self._content.condition
            )
            values = {**self._content.values, **index_range.values, "most": left, "counted": MOST_COUNTED + 1 - number}
            number += self._connection.execute(statement, values).fetchone()[0]
            left -= index_range.count
        return counted(number, was_all_seen=left >= 0)

    # which jobs

    def positions(self, total: int | None) -> list[Position]:
        """Return the positions of the page, and one more if there is another page."""
        query, after, skipped = self._query, _position_of(self._query.after), 0
        if total is not None and query.offset >= total:
            return []
        while query.offset - skipped > _HOP:
            positions = self._after(after, _HOP)
            if len(positions) < _HOP:
                return []
            after, skipped = positions[-1], skipped + _HOP
        offset = query.offset - skipped
        return self._after(after, offset + query.limit + 1)[offset:]

    def _after(self, after: Position | None, wanted: int) -> list[Position]:
        """Return the first positions of the list, or after one. Jobs without a value of the sort key come last."""
        found: list[Position] = []
        if after is None or after[0] is not None:
            found = self._timed(after, wanted)
        if len(found) < wanted and self._query.sort_by is SortKey.FINISHED_AT:
            found += self._unfinished(after if after is not None and after[0] is None else None, wanted - len(found))
        return found

    def _timed(self, after: Position | None, wanted: int) -> list[Position]:
        positions, key = self._positions(after, wanted), self._query.sort_by
        if self._filter.ids is not None:
            positions.add_named(self._filter)
        elif key is SortKey.FINISHED_AT:
            positions.scan(self._scans_of(self._ranges(self._states & index_ranges.ENDED), key))
        elif key is SortKey.SCHEDULED_AT and self._states <= _WAIT_FOR_THEIR_TIME:
            # The index of these states has this order.
            positions.gather(self._ranges(self._states), self._content)
        else:
            self._scan_or_gather(positions, wanted)
        return positions.found

    def _unfinished(self, after: Position | None, wanted: int) -> list[Position]:
        positions = self._positions(after, wanted, is_timed=False)
        if self._filter.ids is not None:
            positions.add_named(self._filter)
        else:
            positions.gather(self._ranges(self._states - index_ranges.ENDED), self._content)
        return positions.found

    def _positions(self, after: Position | None, wanted: int, *, is_timed: bool = True) -> Positions:
        key, direction = self._query.sort_by.value, self._direction
        return Positions(self._connection, key=key, direction=direction, after=after, wanted=wanted, is_timed=is_timed)

    def _scan_or_gather(self, positions: Positions, wanted: int) -> None:
        whole, matching = self._sizes(self._states)
        partly = {queue for queue, count in matching.items() if count < whole[queue]}
        states = self._states
        counts = {place: count for place, count in self._counts.items() if place[0] in partly}
        scans = [
            scan
            for queue in matching.keys() - partly
            for scan in self._scans_through(queue, whole[queue], whole[queue])
        ]
        if self._query.sort_by is SortKey.INSERTED_AT:
            scans += self._scans_of(index_ranges.dead(counts, states, queue=self._filter.queue), SortKey.INSERTED_AT)
            states -= index_ranges.DEAD
            _, matching = self._sizes(states)
        rare: set[str] = set()
        for queue in partly & matching.keys():
            if _SCANNED_PER_GATHERED * matching[queue] ** 2 <= wanted * whole[queue]:
                rare.add(queue)
            else:
                most = max(wanted, _SCANNED_PER_GATHERED * matching[queue])
                scans += self._scans_through(queue, whole[queue], most, states=states)
        rare |= {scan.index_range.values["range_queue"] for scan in positions.scan(scans)}
        counts = {place: count for place, count in counts.items() if place[0] in rare}
        positions.gather(index_ranges.ranges_of(counts, states, queue=self._filter.queue), self._content)

    def _scans_of(self, ranges: Iterable[IndexRange], column: str) -> list[IndexScan]:
        return [
            IndexScan(index_range=index_range, column=column, content=self._content, most=index_range.count)
            for index_range in ranges
        ]

    def _scans_through(
        self, queue: str, size: int, most: int, *, states: frozenset[int] | None = None
    ) -> list[IndexScan]:
        """Return scans of all jobs of a queue in the list's order; with `states` only the jobs in these match."""
        content = self._content
        if states is not None:
            content = content.narrowed(IS_IN_STATES, states=to_json(sorted(states)))
        inserted, whole = SortKey.INSERTED_AT, index_ranges.whole_queue(queue, size)
        if self._query.sort_by is inserted:
            return [IndexScan(index_range=whole, column=inserted, content=content, most=most)]
        # First the jobs that were not due at once. The scan of the others then ends at the last position found.
        return [
            IndexScan(
                index_range=index_ranges.moved(queue, size), column=SortKey.SCHEDULED_AT, content=content, most=most
            ),
            IndexScan(index_range=whole, column=inserted, content=content.narrowed(_IS_DUE_AT_ONCE), most=most),
        ]

    def _sizes(self, states: frozenset[int]) -> tuple[Counter[str], Counter[str]]:
        """Return how many jobs each queue has, and how many of them match and are in these states."""
        whole: Counter[str] = Counter()
        matching: Counter[str] = Counter()
        for (queue, state), count in self._counts.items():
            whole[queue] += count
            if state in states and self._filter.queue in {None, queue}:
                matching[queue] += count
        return whole, matching

    def _ranges(self, states: Iterable[int]) -> Iterable[IndexRange]:
        return index_ranges.ranges_of(self._counts, frozenset(states), queue=self._filter.queue)


def _cursor_of(position: Position) -> Cursor:
    value, job_id, _ = position
    if value is None:
        return Cursor(value=None, id=JobId(job_id))
    reading = Reading()
    at = read_moment("key", value, reading)
    return Cursor(value=at, id=JobId(job_id), stored=str(value) if reading.damage else None)


def _position_of(cursor: Cursor | None) -> Position | None:
    if cursor is None or cursor.value is None:
        return None if cursor is None else (None, cursor.id, 0)
    return micros(cursor.value) if cursor.stored is None else _stored(cursor.stored), cursor.id, 0


def _stored(text: str) -> int:
    try:
        return min(max(int(text), BEFORE_ALL), BEYOND_ALL)
    except ValueError as error:
        raise InvalidOptionError(
            f"the cursor's value {text!r} is not a number of microseconds; use a cursor that a list returned"
        ) from error
