"""Filters: a `JobFilter` as a condition of SQL. Its text is fixed, the values are parameters."""

from __future__ import annotations

from deeper_tasks.backends.protocol import JobFilter
from deeper_tasks.backends.sqlite.codec import CODES, to_json


def where(condition: JobFilter) -> tuple[str, list[str]]:
    """Return the WHERE clause, without the word, and its parameters."""
    parts: list[str] = []
    values: list[str] = []
    if condition.ids is not None:
        parts.append("id IN (SELECT value FROM json_each(?))")
        values.append(to_json(condition.ids))
    if condition.states is not None:
        parts.append("state IN (SELECT value FROM json_each(?))")
        values.append(to_json(sorted(CODES[state] for state in condition.states)))
    if condition.queue is not None:
        parts.append("queue = ?")
        values.append(condition.queue)
    if condition.task is not None:
        parts.append("task = ?")
        values.append(condition.task)
    if condition.worker_module is not None:
        # A range, not LIKE: it needs no escaping and respects case. '/' follows '.'.
        parts.append("task >= ? AND task < ?")
        values += [condition.worker_module + ".", condition.worker_module + "/"]
    if condition.tag is not None:
        parts.append("? IN (SELECT value FROM json_each(options, '$.tags'))")
        values.append(condition.tag)
    return " AND ".join(parts) or "TRUE", values
