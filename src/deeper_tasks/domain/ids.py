"""Ids: of jobs, which are opaque, and of requests, which are UUIDs in the order of time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NewType
from uuid import UUID

if TYPE_CHECKING:
    from datetime import datetime

JobId = NewType("JobId", str)
"""
A job's id as its store writes it: 1 to 64 printable ASCII characters.

It is opaque: only the store that made it knows its form and its order.
"""

RequestId = NewType("RequestId", JobId)
"""
The id of one request to insert a job, made by the manager: a UUID in its canonical form, 36 characters, lower case.

It is the key of a repeat. A store that makes no ids of its own uses it as the job's id, so it is a kind of `JobId`.
"""

NodeId = NewType("NodeId", str)
"""The name of one start of one worker process. It is never used again."""

ClaimToken = NewType("ClaimToken", str)
"""The name of one call of claim. A settlement must show it to be accepted."""

_VERSION_7 = 7 << 76
_VARIANT = 2 << 62
_LOW_62_BITS = (1 << 62) - 1
_SUB_MILLISECOND_STEPS = 4096


class IdGenerator:
    """
    A maker of UUIDv7 values that increase strictly within a process, also when the clock is set back.

    The first 60 bits are the Unix time in 1/4096 of a millisecond (RFC 9562, section 6.2, method 3). If two ids would
    have the same time, the second gets the next step. The last 62 bits are random, so a forked child, which inherits
    the count, makes other ids. Safe to call from several threads if the locks of `make_lock` are.
    """

    def __init__(
        self,
        make_lock: Callable[[], AbstractContextManager[object]] = threading.Lock,  # noqa: TID251 - the domain knows no other
    ) -> None:
        self._last = 0
        self._make_lock = make_lock
        self._lock = make_lock()

    def next(self, unix_ns: int) -> RequestId:
        """Return an id that is greater than all made before; `unix_ns` is the wall clock in nanoseconds."""
        step = unix_ns * _SUB_MILLISECOND_STEPS // 1_000_000
        with self._lock:
            self._last = step = max(step, self._last + 1)
        return _format(step, int.from_bytes(os.urandom(8), "big"))

    def renew_lock(self) -> None:
        """Replace the lock after a `fork`: another thread of the parent may have held it."""
        self._lock = self._make_lock()


def derived_id(name: str, due: datetime) -> RequestId:
    """
    Return the id of the request for the job that the recurring entry `name` fires for `due`.

    The same entry and time always give the same id, so a firing that is sent twice makes one job. It is a UUIDv7 of
    the due time, so it sorts with the other ids.
    """
    step = int(due.timestamp() * 1000) * _SUB_MILLISECOND_STEPS
    digest = hashlib.sha256(f"{name}\0{due.timestamp():.6f}".encode()).digest()
    return _format(step, int.from_bytes(digest[:8], "big"))


def parse_uuid(value: object) -> RequestId | None:
    """Return a UUID, given as text or as `uuid.UUID`, in its canonical form; None if the value is no UUID."""
    text = str(value)
    try:
        parsed = UUID(text)
    except ValueError:
        return None
    # `UUID` also accepts what `int` does: digits of other scripts, underscores, spaces, a sign, "0x".
    return RequestId(JobId(str(parsed))) if parsed.hex in text.replace("-", "").lower() else None


def known_ids(ids: Iterable[JobId]) -> list[RequestId]:
    """Return the UUIDs among job ids, in their canonical form: a store of UUIDs has no job with any other id."""
    return [known for job_id in ids if (known := parse_uuid(job_id)) is not None]


def _format(step: int, random: int) -> RequestId:
    number = (
        (step // _SUB_MILLISECOND_STEPS) << 80
        | _VERSION_7
        | (step % _SUB_MILLISECOND_STEPS) << 64
        | _VARIANT
        | (random & _LOW_62_BITS)
    )
    text = f"{number:032x}"
    return RequestId(JobId(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"))
