"""The event: what all kinds of events have in common."""

from __future__ import annotations

from deeper_tasks.domain.view import View


class Event(View, frozen=True, kw_only=True):
    """Something that happened, as a frozen value."""
