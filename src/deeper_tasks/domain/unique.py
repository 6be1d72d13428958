"""Uniqueness: the key that at most one job holds, and for how long."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from msgspec import Struct


class Unique(Struct, frozen=True, kw_only=True):
    """
    A claim to be the only job under `key`.

    `period` counts from the enqueue, by the store's clock, whatever becomes of
    the job. None means until the job ends or is deleted.
    """

    key: str
    period: timedelta | None = None


def call_key(task: str, arguments: str) -> str:
    """Return the unique key of a call: the same task and the same arguments give the same key."""
    return "call:" + hashlib.sha256(f"{task}\0{arguments}".encode()).hexdigest()


def given_key(key: str) -> str:
    """Return the unique key for one that the caller named; it never meets a call's key."""
    return "given:" + key
