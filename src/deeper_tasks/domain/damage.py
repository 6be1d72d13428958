"""Damage: a part of a stored row that cannot be read, and the value that takes its place where one is needed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from deeper_tasks.domain.end_of_time import END_OF_TIME
from deeper_tasks.domain.view import View

EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), END_OF_TIME
"""
Substitutes for a moment that is earlier, or later, than a `datetime` can hold.

They lie a day inside the ends of the calendar, so that every time zone can show them.
"""


class Damage(View, frozen=True, kw_only=True):
    """A field of a row that cannot be read, and the reason. The reason never quotes the content of the field."""

    field: str
    reason: str


def described(damage: Iterable[Damage]) -> str:
    """Return damage as one line: `options: JSON is malformed; expires_at: it lies outside of the calendar`."""
    return "; ".join(f"{each.field}: {each.reason}" for each in damage)
