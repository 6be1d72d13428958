"""Short ids: the beginning of a UUID, long enough to name one job on a screen and on a command line."""

from __future__ import annotations

import re

from deeper_tasks.domain.ids import JobId

FEWEST_DIGITS = 13
"""The digits of the time in milliseconds and of the version. Fewer digits cannot tell jobs of one moment apart."""

_ALL_DIGITS = 32
_HYPHENS = (8, 12, 16, 20)
"""The numbers of digits after which the canonical form has a hyphen."""
_DIGITS = re.compile(r"[0-9a-f]+")
_MAYBE_DIGITS = re.compile(r"[0-9a-f]*")


def parse_short_id(text: object) -> str | None:
    """
    Return the beginning of an id in its canonical form, without a hyphen at its end; None if `text` is no short id.

    Hyphens and capitals in `text` do not matter. A whole id is no short id, and a text of fewer than `FEWEST_DIGITS`
    digits is none.
    """
    digits = _digits_of(text)
    return None if digits is None or len(digits) < FEWEST_DIGITS else _hyphenated(digits)


def is_too_short(text: object) -> bool:
    """Return whether a value is the beginning of an id as text, and has fewer than `FEWEST_DIGITS` digits."""
    digits = _digits_of(text)
    return digits is not None and len(digits) < FEWEST_DIGITS


def cut(job_id: JobId, digits: int) -> str:
    """Return the first `digits` digits of an id in its canonical form."""
    return _hyphenated(job_id.replace("-", "")[:digits])


def bounds(beginning: str) -> tuple[JobId, JobId] | None:
    """Return the least and the greatest id with a beginning; None if no id in its canonical form begins so."""
    digits = beginning.replace("-", "")
    if len(digits) > _ALL_DIGITS or not _MAYBE_DIGITS.fullmatch(digits) or _hyphenated(digits) != beginning:
        return None
    return JobId(_hyphenated(digits.ljust(_ALL_DIGITS, "0"))), JobId(_hyphenated(digits.ljust(_ALL_DIGITS, "f")))


def _digits_of(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    digits = text.strip().lower().replace("-", "")
    return digits if len(digits) < _ALL_DIGITS and _DIGITS.fullmatch(digits) else None


def _hyphenated(digits: str) -> str:
    starts = [0, *(place for place in _HYPHENS if place < len(digits))]
    return "-".join(digits[start:end] for start, end in zip(starts, [*starts[1:], len(digits)], strict=True))
