"""Uniqueness: a key that at most one job holds at a time."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from msgspec import Struct


class Unique(Struct, frozen=True, kw_only=True):
    """
    A claim to be the only job under `key`.

    `period` counts from the enqueue, by the store's clock, and does not depend on how the job ends. A deletion of the
    job ends the hold earlier, unless the job has completed. Without a period the hold lasts until the job ends or is
    deleted.
    """

    key: str
    period: timedelta | None = None


def call_key(task: str, arguments: str) -> str:
    """Return the unique key of a call: the same task and the same arguments give the same key."""
    return "call:" + hashlib.sha256(f"{task}\0{arguments}".encode()).hexdigest()


def given_key(key: str) -> str:
    """Return the unique key for a key that the caller gave; it never equals the key of a call."""
    return "given:" + key
