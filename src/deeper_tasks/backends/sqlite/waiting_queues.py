"""Waiting queues: the queues of a pattern that have pending jobs, in the order of their names."""

from __future__ import annotations

import sqlite3

import msgspec

from deeper_tasks.backends.sqlite.codec import to_json
from deeper_tasks.domain.queue_patterns import QueuePattern, end_of_prefix

_HAS_PREFIX = "substr(walk.name, 1, length(value)) = value"
_NEXT_NAME = f"""max(
    walk.name || ' ',
    coalesce((SELECT min(value) || char(1114111) FROM json_each(:excluded_prefixes) WHERE {_HAS_PREFIX}), '')
)"""
"""
The least name that may come next: no name has a blank, so a name and a blank come right after it; a prefix and the
last of all characters come after all names with this prefix.
"""
_FIRST_WAITING_QUEUE = """(
    SELECT queue FROM deeper_job INDEXED BY deeper_job_pending
    WHERE state = 3 AND queue >= {start} AND queue < :end
    ORDER BY queue
    LIMIT 1
)"""
SELECT_WAITING_QUEUES = f"""
WITH RECURSIVE walk (name) AS (
    SELECT {_FIRST_WAITING_QUEUE.format(start=":start")}
    UNION ALL
    SELECT {_FIRST_WAITING_QUEUE.format(start=_NEXT_NAME)} FROM walk WHERE walk.name IS NOT NULL
)
SELECT json_group_array(name) FROM (
    SELECT name FROM walk
    WHERE name IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM deeper_queue WHERE deeper_queue.name = walk.name AND paused_at IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM json_each(:excluded) WHERE value = walk.name)
        AND NOT EXISTS (SELECT 1 FROM json_each(:excluded_prefixes) WHERE {_HAS_PREFIX})
    LIMIT :limit
)
"""
"""The queues with pending jobs in a range of names. Each costs one search in the index, from the one before."""

_names = msgspec.json.Decoder(list[str])


class WaitingQueues:
    """The queues of a pattern that have pending jobs, a few at a time: those after a name, then those up to it."""

    def __init__(self, connection: sqlite3.Connection, pattern: QueuePattern, *, after: str) -> None:
        first, end = pattern.prefix, end_of_prefix(pattern.prefix)
        start = min(max(first, after + " " if after else ""), end)
        self._connection = connection
        self._ranges = [(first, start), (start, end)]
        self._excluded = {
            "excluded": to_json(pattern.excluded),
            "excluded_prefixes": to_json(pattern.excluded_prefixes),
        }

    def following(self, count: int) -> list[str]:
        """Return the next `count` queues; fewer if no more are left."""
        queues: list[str] = []
        while self._ranges and (missing := count - len(queues)) > 0:
            low, high = self._ranges.pop()
            found = self._between(low, high, missing) if low < high else []
            if len(found) == missing:
                self._ranges.append((found[-1] + " ", high))
            queues += found
        return queues

    def _between(self, low: str, high: str, count: int) -> list[str]:
        values = {**self._excluded, "start": low, "end": high, "limit": count}
        names: list[str] = _names.decode(self._connection.execute(SELECT_WAITING_QUEUES, values).fetchone()[0])
        return names
