"""Filters: a `JobFilter` as a condition of SQL. Its text is fixed, the values are parameters."""

from __future__ import annotations

from typing import Any

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.protocol import JobFilter
from deeper_tasks.backends.sqlite.codec import to_json
from deeper_tasks.domain.ids import known_ids

IS_NAMED = "id IN (SELECT value FROM json_each(:ids))"
IS_IN_STATES = "state IN (SELECT value FROM json_each(:states))"
_IS_IN_QUEUE = "queue = :queue"
_IS_OF_TASK = "task = :task"
# A range, not LIKE: it needs no escaping and respects case. '/' follows '.'.
# A CASE is evaluated in order: options that are no JSON would otherwise fail the whole list.
_IS_OF_MODULE = """(
    (task >= :module AND task < :past_module)
    OR CASE WHEN json_valid(options)
        THEN json_extract(options, '$.path') >= :module AND json_extract(options, '$.path') < :past_module
        ELSE FALSE
    END
)"""
_HAS_BEGUN = "attempted_at IS NOT NULL"
_HAS_TAG = "CASE WHEN json_valid(options) THEN :tag IN (SELECT value FROM json_each(options, '$.tags')) ELSE FALSE END"


def where(condition: JobFilter) -> tuple[str, dict[str, Any]]:
    """Return the whole filter as a WHERE clause, without the word, and its parameters."""
    parts, values = [], {}
    if condition.ids is not None:
        parts.append(IS_NAMED)
        values["ids"] = to_json(known_ids(condition.ids))
    if condition.states is not None:
        parts.append(IS_IN_STATES)
        values["states"] = to_json(sorted(CODES[state] for state in condition.states))
    if condition.queue is not None:
        parts.append(_IS_IN_QUEUE)
        values["queue"] = condition.queue
    content, more = where_content(condition)
    return " AND ".join([*parts, content]), {**values, **more}


def where_content(condition: JobFilter) -> tuple[str, dict[str, Any]]:
    """The same for the conditions that no index helps to check: task, module, tag and begin. TRUE: there is none."""
    parts, values = [], {}
    if condition.has_begun:
        parts.append(_HAS_BEGUN)
    if condition.task is not None:
        parts.append(_IS_OF_TASK)
        values["task"] = condition.task
    if condition.worker_module is not None:
        parts.append(_IS_OF_MODULE)
        values |= {"module": condition.worker_module + ".", "past_module": condition.worker_module + "/"}
    if condition.tag is not None:
        parts.append(_HAS_TAG)
        values["tag"] = condition.tag
    return " AND ".join(parts) or "TRUE", values
