"""
Buckets: spans of ten minutes, numbered from 1970 in UTC, in which stores count the ends of jobs.

Each day begins with a new bucket. Bucket 0 is free for other counts, as no job ended in 1970.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

BUCKET_SECONDS = 600
BUCKETS_A_DAY = 144
BUCKETS_KEPT = 150
"""The current bucket and those of the 25 hours before: a day, and an hour for clocks that differ."""
_BUCKETS_AN_HOUR = 6


class Span(NamedTuple):
    """The buckets from `first` to `last`, both included."""

    first: int
    last: int


def bucket_of(moment: datetime) -> int:
    """Return the bucket of an aware moment."""
    return int(moment.timestamp() // BUCKET_SECONDS)


def today(bucket: int) -> Span:
    """Return all buckets of the day in UTC, also the later ones: a clock may have been set back."""
    first = bucket - bucket % BUCKETS_A_DAY
    return Span(first, first + BUCKETS_A_DAY - 1)


def last_hour(bucket: int) -> Span:
    """Return the current bucket and the six before it: 60 to 70 minutes."""
    return Span(bucket - _BUCKETS_AN_HOUR, bucket)
