"""Index scans: where jobs stand in a list, and how the first of them are found range by range."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from deeper_tasks.backends.protocol import JobFilter
from deeper_tasks.backends.sqlite.filters import IS_NAMED, where
from deeper_tasks.backends.sqlite.index_ranges import IndexRange

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

_CONDITIONAL = ("state", "task", "options", "scheduled_at", "attempted_at")
"""Columns that a condition may read."""
BEFORE_ALL, BEYOND_ALL = -(1 << 63), (1 << 63) - 1
_FIRST_ROUND, _LONGER_EACH_ROUND = 16, 8

Position = tuple[int | None, str, int]
"""A job's value of the sort key, its id, its rowid."""
_places = msgspec.json.Decoder(list[Position])


class Direction(Struct, frozen=True, kw_only=True):
    """How SQL says that a list goes up or down, and the places before its first and after its last."""

    is_descending: bool
    order: str
    follows: str
    reaches: str
    first: tuple[int, str]
    last: int

    def orders(self, column: str) -> str:
        """Return what follows ORDER BY."""
        return f"{column} {self.order}, id {self.order}"

    def range_of(self, column: str) -> str:
        """Return the condition of what comes after a place and not after a bound."""
        return f"({column}, id) {self.follows} (:at, :after_id) AND {column} {self.reaches} :bound"


UP = Direction(is_descending=False, order="ASC", follows=">", reaches="<=", first=(BEFORE_ALL, ""), last=BEYOND_ALL)
# '~' follows all letters that an id has.
DOWN = Direction(is_descending=True, order="DESC", follows="<", reaches=">=", first=(BEYOND_ALL, "~"), last=BEFORE_ALL)


class Content(Struct, frozen=True, kw_only=True):
    """A condition that no index knows, and its parameters."""

    condition: str
    values: dict[str, Any]

    def narrowed(self, condition: str, **values: Any) -> Content:
        """Return this and one more condition."""
        return Content(condition=f"{condition} AND {self.condition}", values={**self.values, **values})


class IndexScan(Struct, frozen=True, kw_only=True):
    """A way along a line in the order of its index, by `column`, past `most` jobs, leaving out what is not meant."""

    line: IndexRange
    column: str
    content: Content
    most: int


class Positions:
    """
    The first places found so far: of the jobs that have a value of the sort key, or of those that have none.

    Once there are as many as are wanted, no way looks beyond the last of them.
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

    def gather(self, found_by: Iterable[IndexRange], content: Content) -> None:
        """Add the first of these lines, whatever their order is."""
        for line in found_by:
            statement = self._statement(SELECT_PLACES, line, self._key, content.condition)
            self._add(statement, {**content.values, **line.values})

    def walk(self, walks: Iterable[IndexScan]) -> list[IndexScan]:
        """
        Add the first of these lines by walking along the order; returns those that were too long.

        In rounds, each longer than the one before: what one line has near the start spares the way
        along another that has nothing.
        """
        left, given_up = sorted(walks, key=lambda walk: -walk.line.count), []
        length = _FIRST_ROUND * self._wanted
        while left:
            unfinished = [walk for walk in left if not self._walk(walk, min(length, walk.most))]
            given_up += [walk for walk in unfinished if walk.most <= length]
            left = [walk for walk in unfinished if walk.most > length]
            length *= _LONGER_EACH_ROUND
        return given_up

    def _walk(self, walk: IndexScan, most: int) -> bool:
        """IndexScan past `most` jobs; returns whether these were all that can be of use."""
        values = {**walk.content.values, **walk.line.values, "most": most}
        found_by = self._statement(SELECT_PLACES_WALKING, walk.line, walk.column, walk.content.condition)
        if self._add(found_by, values) == self._wanted:
            return True
        longer = self._statement(SELECT_IS_LONGER, walk.line, walk.column, "")
        return self._connection.execute(longer, {**self._values, **values}).fetchone() is None

    def _statement(self, template: str, line: IndexRange, column: str, condition: str) -> str:
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
        self.found = sorted({*self.found, *found}, reverse=self._direction.is_descending)[: self._wanted]
        if self._is_timed and len(self.found) == self._wanted:
            self._values["bound"] = self.found[-1][0]
        return len(found)
