"""
A listing: a page of jobs in an order, found by the way that reads the fewest.

Of each queue a list is either **walked** along the index of its order, leaving
out what is not meant, or **gathered** by the index of the states that are
meant, and sorted. The counters tell beforehand how many jobs that are: to find
`wanted` of `meant` among `whole` costs about `wanted * whole / meant` rows by
the one way and `meant` by the other. Where those not meant lie in one heap (a
backlog before all that ended), the walk gives up after as many rows as the
gathering costs. By `finished_at` the ended jobs need neither: their index has
that order.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from deeper_tasks.backends.protocol import Cursor, JobFilter, JobList, JobQuery, SortKey
from deeper_tasks.backends.sqlite import lines
from deeper_tasks.backends.sqlite.codec import CODES, JOB_COLUMNS, micros, optional_moment, to_job, to_json
from deeper_tasks.backends.sqlite.filters import IS_IN_STATES, IS_NAMED, where, where_content
from deeper_tasks.backends.sqlite.lines import Line
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State

MOST_COUNTED = 10_000
MOST_LOOKED_AT = 50_000
"""Jobs that are looked at to count those that a task, module or tag means."""

SELECT_PLACES = """
SELECT json_group_array(json_array({key}, id, rowid)) FROM (
    SELECT {key}, id, rowid FROM deeper_job INDEXED BY {index}
    WHERE {scope} AND {range} AND {condition}
    ORDER BY {order} LIMIT :wanted
)
"""
SELECT_PLACES_WALKING = """
SELECT json_group_array(json_array({key}, id, rowid)) FROM (
    SELECT {key}, id, rowid FROM (
        SELECT {columns} FROM deeper_job INDEXED BY {index}
        WHERE {scope} AND {range} ORDER BY {order} LIMIT :most
    )
    WHERE {condition} LIMIT :wanted
)
"""
SELECT_IS_LONGER = """
SELECT 1 FROM deeper_job INDEXED BY {index} WHERE {scope} AND {range} ORDER BY {order} LIMIT 1 OFFSET :most
"""
SELECT_NAMED = f"""
SELECT json_group_array(json_array({{key}}, id, rowid)) FROM deeper_job WHERE {IS_NAMED} AND {{range}} AND {{condition}}
"""
SELECT_JOBS = f"SELECT rowid, {JOB_COLUMNS} FROM deeper_job WHERE rowid IN (SELECT value FROM json_each(:rowids))"
COUNT = """
SELECT count(*) FROM (
    SELECT 1 FROM (SELECT task, options FROM deeper_job INDEXED BY {index} WHERE {scope} LIMIT :most)
    WHERE {condition} LIMIT :counted
)
"""
COUNT_NAMED = f"SELECT count(*) FROM deeper_job WHERE {IS_NAMED} AND {{condition}}"

_ALL_STATES = frozenset(CODES.values())
_WAIT_FOR_THEIR_TIME = frozenset({CODES[State.SCHEDULED], CODES[State.RETRYABLE]})

_IS_DUE_AT_ONCE = "scheduled_at = inserted_at"
_CONDITIONAL = ("state", "task", "options", "scheduled_at")
"""Columns that a condition may read."""

_WALKED_PER_GATHERED = 3
"""Neighbours in an index are mostly neighbours in the table: so many of them cost what one gathered from afar does."""

_ALL = -1
_HOP = 10_000
"""Places that are read at once on the way to a page far down."""
_BEYOND_ALL = 1 << 62

Place = tuple[int | None, str, int]
"""A job's value of the sort key, its id, its rowid."""
_places = msgspec.json.Decoder(list[Place])


class _Direction(Struct, frozen=True, kw_only=True):
    """How SQL says that a list goes up or down, and the places before its first and after its last."""

    order: str
    follows: str
    reaches: str
    first: tuple[int, str]
    last: int

    def orders(self, column: str) -> str:
        return f"{column} {self.order}, id {self.order}"

    def range_of(self, column: str) -> str:
        return f"({column}, id) {self.follows} (:at, :after_id) AND {column} {self.reaches} :bound"


_UP = _Direction(order="ASC", follows=">", reaches="<=", first=(-1, ""), last=_BEYOND_ALL)
# '~' follows all letters that an id has.
_DOWN = _Direction(order="DESC", follows="<", reaches=">=", first=(_BEYOND_ALL, "~"), last=-1)


def find(connection: sqlite3.Connection, query: JobQuery) -> JobList:
    """Return a page of jobs; see `Backend.find`."""
    search = _Search(connection, query)
    total, is_exact = search.total()
    places = search.page(total if is_exact else None)
    jobs = _read(connection, places[: query.limit])
    following = places[query.limit - 1] if len(places) > query.limit else None
    return JobList(
        jobs=jobs,
        total=max(total, query.offset + len(jobs)) if jobs and not is_exact else total,
        total_is_exact=is_exact,
        next=None if following is None else Cursor(value=optional_moment(following[0]), id=JobId(following[1])),
    )


def _read(connection: sqlite3.Connection, places: list[Place]) -> tuple[Job, ...]:
    rows = connection.execute(SELECT_JOBS, {"rowids": to_json([rowid for _, _, rowid in places])})
    jobs = {row["rowid"]: to_job(row) for row in rows}
    return tuple(jobs[rowid] for _, _, rowid in places)


class _Search:
    """One list on its way: which jobs are meant, in which order, and how many there are of what."""

    def __init__(self, connection: sqlite3.Connection, query: JobQuery) -> None:
        self._connection = connection
        self._query = query
        self._filter = query.filter
        self._direction = _DOWN if query.is_descending else _UP
        self._content, self._values = where_content(query.filter)
        self._counts = lines.counts_of(connection)
        states = query.filter.states
        self._states = _ALL_STATES if states is None else frozenset(CODES[state] for state in states)

    # how many

    def total(self) -> tuple[int, bool]:
        """Return the number of jobs meant, and whether that is exact."""
        if self._filter.ids is not None:
            condition, values = where(msgspec.structs.replace(self._filter, ids=None))
            values["ids"] = to_json(self._filter.ids)
            return self._connection.execute(COUNT_NAMED.format(condition=condition), values).fetchone()[0], True
        if self._content == "TRUE":
            return sum(line.count for line in self._lines(self._states)), True
        return self._count_content()

    def _count_content(self) -> tuple[int, bool]:
        counted, left = 0, MOST_LOOKED_AT
        for line in self._lines(self._states):
            if left <= 0 or counted > MOST_COUNTED:
                return min(counted, MOST_COUNTED), False
            statement = COUNT.format(index=line.index, scope=line.scope, condition=self._content)
            values = {**self._values, **line.values, "most": left, "counted": MOST_COUNTED + 1 - counted}
            counted += self._connection.execute(statement, values).fetchone()[0]
            left -= line.count
        return min(counted, MOST_COUNTED), counted <= MOST_COUNTED and left >= 0

    # which

    def page(self, total: int | None) -> list[Place]:
        """Return the places of the page, and one more if there is another page."""
        query, after, skipped = self._query, _place_of(self._query.after), 0
        if total is not None and query.offset >= total:
            return []
        while query.offset - skipped > _HOP:
            places = self._after(after, _HOP)
            if len(places) < _HOP:
                return []
            after, skipped = places[-1], skipped + _HOP
        offset = query.offset - skipped
        return self._after(after, offset + query.limit + 1)[offset:]

    def _after(self, after: Place | None, wanted: int) -> list[Place]:
        """Return the first places of the list, or those after one; who has no value of the sort key comes last."""
        found: list[Place] = []
        if after is None or after[0] is not None:
            found = self._timed(after, wanted)
        if len(found) < wanted and self._query.sort_by is SortKey.FINISHED_AT:
            found += self._unfinished(after if after is not None and after[0] is None else None, wanted - len(found))
        return found

    def _timed(self, after: Place | None, wanted: int) -> list[Place]:
        part, key = self._part(after, wanted), self._query.sort_by
        if self._filter.ids is not None:
            part.add_named(self._filter)
        elif key is SortKey.FINISHED_AT:
            part.gather(self._lines(self._states & lines.ENDED))
        elif key is SortKey.SCHEDULED_AT and self._states <= _WAIT_FOR_THEIR_TIME:
            # Their index has this order.
            part.gather(self._lines(self._states))
        else:
            self._walk_or_gather(part, wanted, has_order_of_dead=key is SortKey.INSERTED_AT)
        return part.places

    def _unfinished(self, after: Place | None, wanted: int) -> list[Place]:
        part = self._part(after, wanted, is_timed=False)
        if self._filter.ids is not None:
            part.add_named(self._filter)
        else:
            part.gather(self._lines(self._states - lines.ENDED))
        return part.places

    def _part(self, after: Place | None, wanted: int, *, is_timed: bool = True) -> _Part:
        return _Part(
            self._connection,
            key=self._query.sort_by.value,
            direction=self._direction,
            content=(self._content, self._values),
            after=after,
            wanted=wanted,
            is_timed=is_timed,
        )

    def _walk_or_gather(self, part: _Part, wanted: int, *, has_order_of_dead: bool) -> None:
        whole, meant = self._sizes(self._states)
        partly = {queue for queue, count in meant.items() if count < whole[queue]}
        for queue in meant.keys() - partly:
            part.walk(queue, size=whole[queue], states=None, most=_ALL)
        states, counts = self._states, {place: count for place, count in self._counts.items() if place[0] in partly}
        if has_order_of_dead:
            part.gather(lines.dead(counts, states, queue=self._filter.queue))
            states -= lines.DEAD
            _, meant = self._sizes(states)
        rare: set[str] = set()
        for queue in partly & meant.keys():
            is_rare = _WALKED_PER_GATHERED * meant[queue] ** 2 <= wanted * whole[queue]
            most = max(wanted, _WALKED_PER_GATHERED * meant[queue])
            if is_rare or not part.walk(queue, size=whole[queue], states=states, most=most):
                rare.add(queue)
        counts = {place: count for place, count in counts.items() if place[0] in rare}
        part.gather(lines.lines_of(counts, states, queue=self._filter.queue))

    def _sizes(self, states: frozenset[int]) -> tuple[Counter[str], Counter[str]]:
        """Return how many jobs each queue has, and how many of them are meant and in these states."""
        whole: Counter[str] = Counter()
        meant: Counter[str] = Counter()
        for (queue, state), count in self._counts.items():
            whole[queue] += count
            if state in states and self._filter.queue in {None, queue}:
                meant[queue] += count
        return whole, meant

    def _lines(self, states: Iterable[int]) -> Iterable[Line]:
        return lines.lines_of(self._counts, frozenset(states), queue=self._filter.queue)


class _Part:
    """
    The first places found so far: of the jobs that have a value of the sort key, or of those that have none.

    Once there are as many as are wanted, no way looks beyond the last of them.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        key: str,
        direction: _Direction,
        content: tuple[str, dict[str, Any]],
        after: Place | None,
        wanted: int,
        is_timed: bool,
    ) -> None:
        self.places: list[Place] = []
        self._connection = connection
        self._key = key
        self._direction = direction
        self._is_timed = is_timed
        self._content, values = content
        at, after_id = direction.first if after is None else after[:2]
        self._values = {**values, "at": at, "after_id": after_id, "bound": direction.last, "wanted": wanted}

    def add_named(self, target: JobFilter) -> None:
        """Add the jobs that a filter names."""
        condition, values = where(target)
        self._add(SELECT_NAMED.format(key=self._key, range=self._range(self._key), condition=condition), values)

    def gather(self, found_by: Iterable[Line]) -> None:
        """Add the first of these lines."""
        for line in found_by:
            self._add(self._statement(SELECT_PLACES, line, self._key, self._content), line.values)

    def walk(self, queue: str, *, size: int, states: frozenset[int] | None, most: int) -> bool:
        """
        Add the first of a queue by walking along the order, past `most` jobs.

        Returns:
            Whether they are all that are wanted of this queue. If not, more may follow.
        """
        values: dict[str, Any] = {"most": most}
        condition = self._content
        if states is not None:
            condition, values["states"] = f"{IS_IN_STATES} AND {condition}", to_json(sorted(states))
        whole = lines.whole_queue(queue, size)
        if self._key == SortKey.INSERTED_AT:
            return self._walk(whole, SortKey.INSERTED_AT, condition, values)
        # First those that were not due at once: the others are then sought no further than these reach.
        return self._walk(lines.moved(queue, size), self._key, condition, values) and self._walk(
            whole, SortKey.INSERTED_AT, f"{_IS_DUE_AT_ONCE} AND {condition}", values
        )

    def _walk(self, line: Line, column: str, condition: str, values: dict[str, Any]) -> bool:
        values = {**values, **line.values}
        if values["most"] == _ALL:
            self._add(self._statement(SELECT_PLACES, line, column, condition), values)
            return True
        if self._add(self._statement(SELECT_PLACES_WALKING, line, column, condition), values) == self._values["wanted"]:
            return True
        longer = self._statement(SELECT_IS_LONGER, line, column, condition)
        return self._connection.execute(longer, {**self._values, **values}).fetchone() is None

    def _statement(self, template: str, line: Line, column: str, condition: str) -> str:
        columns = [column, "id", "rowid", *(name for name in _CONDITIONAL if name in condition and name != column)]
        return template.format(
            key=column,
            columns=", ".join(columns),
            index=line.index,
            scope=line.scope,
            range=self._range(column),
            condition=condition,
            order=self._direction.orders(column) if self._is_timed else f"id {self._direction.order}",
        )

    def _range(self, column: str) -> str:
        if self._is_timed:
            return self._direction.range_of(column)
        return f"id {self._direction.follows} :after_id AND {column} IS NULL"

    def _add(self, statement: str, values: dict[str, Any]) -> int:
        found = _places.decode(self._connection.execute(statement, {**self._values, **values}).fetchone()[0])
        is_descending, wanted = self._direction is _DOWN, self._values["wanted"]
        self.places = sorted({*self.places, *found}, reverse=is_descending)[:wanted]
        if self._is_timed and len(self.places) == wanted:
            self._values["bound"] = self.places[-1][0]
        return len(found)


def _place_of(cursor: Cursor | None) -> Place | None:
    return None if cursor is None else (None if cursor.value is None else micros(cursor.value), cursor.id, 0)
