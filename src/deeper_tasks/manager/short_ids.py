"""Short ids: the whole id of a short one, and the shortest that names one job alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.ids import JobId, parse_id
from deeper_tasks.domain.short_ids import FEWEST_DIGITS, cut, is_too_short, parse_short_id
from deeper_tasks.errors import AmbiguousIdError, InvalidOptionError, JobNotFoundError

_MOST_NAMED = 5
_LENGTHS: tuple[Iterable[int], ...] = ((FEWEST_DIGITS,), range(FEWEST_DIGITS + 1, 25))
"""
The numbers of digits that are tried at once, round by round.

Jobs of the same millisecond differ by 16 digits, those of recurring tasks that are due at the same time by
a few more.
"""


def check_id(text: str) -> JobId | str:
    """Return an id, whole or short, in its canonical form. Raises InvalidOptionError or JobNotFoundError."""
    if is_too_short(text):
        digits = len(text.strip().replace("-", ""))
        has = f"{digits} digit{'' if digits == 1 else 's'}{' without hyphens' if '-' in text else ''}"
        raise InvalidOptionError(f"the id {text!r} is too short: it has {has}; give {FEWEST_DIGITS} of them, or more")
    checked = parse_id(text) or parse_short_id(text)
    if checked is None:
        raise JobNotFoundError(
            f"no job has the id {text!r}: ids are UUIDs, or {FEWEST_DIGITS} and more of their digits"
        )
    return checked


async def expand(backend: Backend, short: str) -> JobId:
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


async def shorten(backend: Backend, ids: Sequence[JobId]) -> list[str]:
    """Return, for each id, the fewest of its digits that no other job's id begins with."""
    short: dict[JobId, str] = {}
    for lengths in _LENGTHS:
        asked = [(job_id, cut(job_id, digits)) for job_id in ids if job_id not in short for digits in lengths]
        found = await backend.find_ids([beginning for _, beginning in asked], limit=2)
        for (job_id, beginning), same in zip(asked, found, strict=True):
            if len(same) <= 1:
                short.setdefault(job_id, beginning)
    return [short.get(job_id, job_id) for job_id in ids]
