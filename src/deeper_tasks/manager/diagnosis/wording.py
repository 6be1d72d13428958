"""The wording of findings: numbers and names as people say them."""

from __future__ import annotations

from collections.abc import Iterable

_MOST_NAMED = 5
MANAGER = "module:manager"
"""Stands in remedies for the place of the application's manager, until that is known."""


def count(number: int, one: str) -> str:
    """Return how many: `1 job`, `2,000 jobs`."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def share(fraction: float | None) -> str:
    """Return a share in per cent: `2.5 %`; `none` where there is nothing to share."""
    return "none" if fraction is None else f"{100 * fraction:.3g} %"


def names(several: Iterable[str]) -> str:
    """Return some names in a row, and how many more there are."""
    listed = [repr(name) for name in sorted(several)]
    more = len(listed) - _MOST_NAMED
    return ", ".join(listed[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
