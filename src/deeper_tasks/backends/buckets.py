"""
Buckets: the ten minutes, counted from 1970 in UTC, by which stores count the ends of jobs.

A day begins with a bucket. Bucket 0 is free for other counts: no store is from 1970.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

BUCKET_SECONDS = 600
BUCKETS_A_DAY = 144
BUCKETS_KEPT = 150
"""The current one and those of the 25 hours before it: a day, and an hour for clocks that differ."""
_BUCKETS_AN_HOUR = 6


class Span(NamedTuple):
    """The buckets from `first` to `last`, both included."""

    first: int
    last: int


def bucket_of(moment: datetime) -> int:
    """Return the bucket of an aware moment."""
    return int(moment.timestamp() // BUCKET_SECONDS)


def today(bucket: int) -> Span:
    """Return the buckets of the day in UTC: a clock that is set back forgets no end."""
    first = bucket - bucket % BUCKETS_A_DAY
    return Span(first, first + BUCKETS_A_DAY - 1)


def last_hour(bucket: int) -> Span:
    """Return the current bucket and those in which the hour before it lies: 60 to 70 minutes."""
    return Span(bucket - _BUCKETS_AN_HOUR, bucket)
