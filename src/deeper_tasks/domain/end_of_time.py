"""The end of time: the last moment that every store can keep and every zone can show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

END_OF_TIME = datetime(9999, 12, 30, tzinfo=UTC)
"""The calendar ends with the year 9999, in some zones a day before it does in others."""


def later(moment: datetime, by: timedelta) -> datetime:
    """Return a moment so much later, the end of time at the latest. A clock may be wrong by thousands of years."""
    return moment + by if moment < END_OF_TIME - by else END_OF_TIME
