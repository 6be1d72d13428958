"""The wording of findings: numbers and spans of time as people say them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

_UNITS = ((86_400, "days"), (3_600, "hours"), (60, "minutes"))
_MOST_NAMED = 5


def span(time: timedelta) -> str:
    """Return a span of time in its coarsest fitting unit: `3 hours`."""
    seconds = time.total_seconds()
    size, unit = next((each for each in _UNITS if seconds >= 2 * each[0]), (1, "seconds"))
    number = round(seconds / size)
    return f"{number} {unit if number != 1 else unit.removesuffix('s')}"


def count(number: int, one: str) -> str:
    """Return how many: `1 job`, `2,000 jobs`."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def names(several: Iterable[str]) -> str:
    """Return some names in a row, and how many more there are."""
    listed = [repr(name) for name in sorted(several)]
    more = len(listed) - _MOST_NAMED
    return ", ".join(listed[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
