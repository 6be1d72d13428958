"""The end of time: the last moment that every store can keep and every time zone can show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

END_OF_TIME = datetime(9999, 12, 30, tzinfo=UTC)
"""The calendar ends with the year 9999, in some time zones a day earlier than in others."""


def later(moment: datetime, by: timedelta) -> datetime:
    """
    Return the moment that is `by` later, but at most the end of time.

    A sum beyond the calendar would raise, and a wrong clock may be ahead by thousands of years.
    """
    return moment + by if moment < END_OF_TIME - by else END_OF_TIME
