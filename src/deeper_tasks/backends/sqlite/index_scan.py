"""Index scans: find the first positions of a list, one index range after the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from deeper_tasks.backends.protocol import JobFilter
from deeper_tasks.backends.sqlite.filters import IS_NAMED, where
from deeper_tasks.backends.sqlite.index_ranges import IndexRange

SELECT_POSITIONS = """
SELECT json_group_array(json_array({key}, id, rowid)) FROM (
    SELECT {key}, id, rowid FROM deeper_job INDEXED BY {index}
    WHERE {scope} AND {range} AND {condition}
    ORDER BY {order} LIMIT :wanted
)
"""
SELECT_POSITIONS_SCANNING = """
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

_CONDITIONAL = ("state", "task", "options", "scheduled_at", "attempted_at")
"""The columns that a condition may read."""
BEFORE_ALL, BEYOND_ALL = -(1 << 63), (1 << 63) - 1
_FIRST_ROUND, _LONGER_EACH_ROUND = 16, 8

Position = tuple[int | None, str, int]
"""A job's value of the sort key, its id, its rowid."""
_positions = msgspec.json.Decoder(list[Position])


class Direction(Struct, frozen=True, kw_only=True):
    """How SQL orders a list up or down, with the positions before the first job and after the last."""

    is_descending: bool
    order: str
    follows: str
    reaches: str
    first: tuple[int, str]
    last: int

    def orders(self, column: str) -> str:
        """Return the terms of an ORDER BY."""
        return f"{column} {self.order}, id {self.order}"

    def range_of(self, column: str) -> str:
        """Return the condition for the jobs after a position and not after a bound."""
        return f"({column}, id) {self.follows} (:at, :after_id) AND {column} {self.reaches} :bound"


UP = Direction(is_descending=False, order="ASC", follows=">", reaches="<=", first=(BEFORE_ALL, ""), last=BEYOND_ALL)
# '~' sorts after every id.
DOWN = Direction(is_descending=True, order="DESC", follows="<", reaches=">=", first=(BEYOND_ALL, "~"), last=BEFORE_ALL)


class Content(Struct, frozen=True, kw_only=True):
    """A condition that no index helps to check, and its parameters."""

    condition: str
    values: dict[str, Any]

    def narrowed(self, condition: str, **values: Any) -> Content:
        """Return this and one more condition."""
        return Content(condition=f"{condition} AND {self.condition}", values={**self.values, **values})


class IndexScan(Struct, frozen=True, kw_only=True):
    """A scan of at most `most` jobs of an index range, ordered by `column`, for those with the content."""

    index_range: IndexRange
    column: str
    content: Content
    most: int


class Positions:
    """
    The first positions found so far: of the jobs that have a value of the sort key, or of the jobs without one.

    Once as many are found as are wanted, no search reads beyond the last of them.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        key: str,
        direction: Direction,
        after: Position | None,
        wanted: int,
        is_timed: bool = True,
    ) -> None:
        self.found: list[Position] = []
        self._connection = connection
        self._key = key
        self._direction = direction
        self._wanted = wanted
        self._is_timed = is_timed
        at, after_id = direction.first if after is None else after[:2]
        self._values = {"at": at, "after_id": after_id, "bound": direction.last, "wanted": wanted}

    def add_named(self, target: JobFilter) -> None:
        """Add the jobs that a filter names."""
        condition, values = where(target)
        self._add(SELECT_NAMED.format(key=self._key, range=self._range(self._key), condition=condition), values)

    def gather(self, ranges: Iterable[IndexRange], content: Content) -> None:
        """Add the first positions in these ranges, in whatever order their indexes are."""
        for index_range in ranges:
            statement = self._statement(SELECT_POSITIONS, index_range, self._key, content.condition)
            self._add(statement, {**content.values, **index_range.values})

    def scan(self, scans: Iterable[IndexScan]) -> list[IndexScan]:
        """
        Add the first positions that these scans find; returns the scans that were given up as too long.

        They run in rounds, each longer than the one before: jobs that one scan finds near its start spare the others
        a long search for nothing.
        """
        left, given_up = sorted(scans, key=lambda scan: -scan.index_range.count), []
        length = _FIRST_ROUND * self._wanted
        while left:
            unfinished = [scan for scan in left if not self._scan(scan, min(length, scan.most))]
            given_up += [scan for scan in unfinished if scan.most <= length]
            left = [scan for scan in unfinished if scan.most > length]
            length *= _LONGER_EACH_ROUND
        return given_up

    def _scan(self, scan: IndexScan, most: int) -> bool:
        """Scan at most `most` jobs; returns whether no further job of this scan can be in the list."""
        values = {**scan.content.values, **scan.index_range.values, "most": most}
        statement = self._statement(SELECT_POSITIONS_SCANNING, scan.index_range, scan.column, scan.content.condition)
        if self._add(statement, values) == self._wanted:
            return True
        longer = self._statement(SELECT_IS_LONGER, scan.index_range, scan.column, "")
        return self._connection.execute(longer, {**self._values, **values}).fetchone() is None

    def _statement(self, template: str, index_range: IndexRange, column: str, condition: str) -> str:
        columns = [column, "id", "rowid", *(name for name in _CONDITIONAL if name in condition and name != column)]
        return template.format(
            key=column,
            columns=", ".join(columns),
            index=index_range.index,
            scope=index_range.scope,
            range=self._range(column),
            condition=condition,
            order=self._direction.orders(column) if self._is_timed else f"id {self._direction.order}",
        )

    def _range(self, column: str) -> str:
        if self._is_timed:
            return self._direction.range_of(column)
        return f"id {self._direction.follows} :after_id AND {column} IS NULL"

    def _add(self, statement: str, values: dict[str, Any]) -> int:
        found = _positions.decode(self._connection.execute(statement, {**self._values, **values}).fetchone()[0])
        self.found = sorted({*self.found, *found}, reverse=self._direction.is_descending)[: self._wanted]
        if self._is_timed and len(self.found) == self._wanted:
            self._values["bound"] = self.found[-1][0]
        return len(found)
