"""Uniqueness: the key that at most one job holds, and for how long."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from msgspec import Struct

from deeper_tasks.domain.state import State


class Unique(Struct, frozen=True, kw_only=True):
    """
    A claim to be the only job under `key`.

    `period` counts from the enqueue, by the store's clock, however the job ends;
    its deletion ends the hold before, unless the job has completed. None means
    until the job ends or is deleted.
    """

    key: str
    period: timedelta | None = None


def outlives_deletion(state: State) -> bool:
    """
    Return whether a key that is held for a period stays held when its job, in this state, is deleted.

    It does where the work is done: a clean-up must not shorten the period in
    which it is not to be done again. Any other deleted job holds nothing.
    """
    return state is State.COMPLETED


def call_key(task: str, arguments: str) -> str:
    """Return the unique key of a call: the same task and the same arguments give the same key."""
    return "call:" + hashlib.sha256(f"{task}\0{arguments}".encode()).hexdigest()


def given_key(key: str) -> str:
    """Return the unique key for one that the caller named; it never meets a call's key."""
    return "given:" + key
