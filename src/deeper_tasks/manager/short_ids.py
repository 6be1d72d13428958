"""Short ids: the whole id of a short one, and the shortest that names one job alone."""

from __future__ import annotations

from collections.abc import Sequence

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.ids import JobId
from deeper_tasks.errors import AmbiguousIdError, JobNotFoundError
from deeper_tasks.tasks.quoting import quoted

_MOST_NAMED = 5


async def whole_id(backend: Backend, text: str) -> JobId:
    """
    Return the whole id of an id that may be short. A whole id may be that of no job.

    Raises:
        InvalidOptionError: it is too short.
        JobNotFoundError: it is no id, or no job's id begins so.
        AmbiguousIdError: the ids of several jobs begin so.
    """
    form = backend.capabilities.ids
    whole = form.parse(text)
    if whole is not None:
        return whole
    short = form.parse_short(text)
    if short is None:
        raise JobNotFoundError(f"no job has the id {quoted(text)}: {form.short_description}")
    return await _expand(backend, short)


async def shorten(backend: Backend, ids: Sequence[JobId]) -> list[str]:
    """Return, for each id, its shortest beginning that no other job's id has; the whole id if ids are never cut."""
    form, short = backend.capabilities.ids, dict[JobId, str]()
    for lengths in form.rounds:
        asked = [(job_id, form.cut(job_id, length)) for job_id in ids if job_id not in short for length in lengths]
        found = await backend.find_ids([beginning for _, beginning in asked], limit=2)
        for (job_id, beginning), same in zip(asked, found, strict=True):
            if len(same) <= 1:
                short.setdefault(job_id, beginning)
    return [short.get(job_id, job_id) for job_id in ids]


async def _expand(backend: Backend, short: str) -> JobId:
    """Return the id of the one job whose id begins so. Raises JobNotFoundError or AmbiguousIdError."""
    [found] = await backend.find_ids([short], limit=_MOST_NAMED + 1)
    if not found:
        raise JobNotFoundError(f"no job has an id that begins with {short!r}; it may have been cleaned up")
    if len(found) > 1:
        named = ", ".join(found[:_MOST_NAMED]) + (" and more" if len(found) > _MOST_NAMED else "")
        raise AmbiguousIdError(
            f"several jobs have ids that begin with {short!r}: {named}; give more digits", candidates=tuple(found)
        )
    return found[0]
