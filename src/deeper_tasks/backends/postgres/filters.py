"""Filters: a `JobFilter` as a condition of SQL. Its text is fixed, the values are parameters."""

from __future__ import annotations

from typing import Any

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.postgres.codec import array, plain, to_json
from deeper_tasks.backends.protocol import JobFilter
from deeper_tasks.domain.ids import known_ids

IS_NAMED: str = "job.id = ANY (%(ids)s::uuid[])"
# "+ 0": a filter with ids finds the jobs by these, and by no index on the states.
IS_IN_STATES: str = "job.state + 0 = ANY (%(states)s::smallint[])"
_IS_IN_QUEUE: str = "job.queue = %(queue)s"
_HAS_BEGUN: str = "job.attempted_at IS NOT NULL"
_IS_OF_TASK: str = "job.task = %(task)s"
_IS_OF_MODULE: str = """(
    starts_with(job.task, %(module)s) OR coalesce(starts_with(path_of(job.options), %(module)s), false)
)"""
# As JSON texts: without their quotes some of them could not be text in PostgreSQL. Damaged options have no tags.
_HAS_TAG: str = "%(tag)s = ANY (tags_of(job.options))"


def where(condition: JobFilter) -> tuple[str, dict[str, Any]]:
    """Return the whole filter as the condition of a WHERE clause, and its parameters."""
    parts: list[str] = []
    values: dict[str, Any] = {}
    if condition.ids is not None:
        parts.append(IS_NAMED)
        values["ids"] = array(known_ids(condition.ids))
    if condition.states is not None:
        parts.append(IS_IN_STATES)
        values["states"] = array(sorted(CODES[state] for state in condition.states))
    if condition.queue is not None:
        parts.append(_IS_IN_QUEUE)
        values["queue"] = plain(condition.queue)
    content, more = where_content(condition)
    return " AND ".join([*parts, content]), {**values, **more}


def where_content(condition: JobFilter) -> tuple[str, dict[str, Any]]:
    """Return the same for the parts that no index has: task, module, tag and start. TRUE if none of them is given."""
    parts: list[str] = []
    values: dict[str, Any] = {}
    if condition.has_begun:
        parts.append(_HAS_BEGUN)
    if condition.task is not None:
        parts.append(_IS_OF_TASK)
        values["task"] = plain(condition.task)
    if condition.worker_module is not None:
        parts.append(_IS_OF_MODULE)
        values["module"] = plain(condition.worker_module + ".")
    if condition.tag is not None:
        parts.append(_HAS_TAG)
        values["tag"] = to_json(condition.tag)
    return " AND ".join(parts) or "TRUE", values
