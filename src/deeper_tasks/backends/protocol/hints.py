"""Hints: the role of waking those who wait for a change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class Topic(StrEnum):
    """The kind of change that a notification announces."""

    JOBS = "jobs"
    """A queue has new pending jobs; the subject is its name. Empty: any queue may have."""
    CONTROL = "control"
    """A cancel request or a pause: workers should beat at once. The subject is empty or a queue."""
    SCHEDULES = "schedules"
    """An entry, or a job's due time, may be earlier than a maintainer thinks."""


class Notification(Struct, frozen=True, kw_only=True):
    """A hint that something changed. Hints may be lost, doubled or late; polling alone is correct."""

    topic: Topic
    subject: str = ""


class Hints(Protocol):
    """
    A store that wakes workers and callers that wait.

    Each method that changes rows sends the hints of its change itself, after its commit, to all listeners in this
    process and in others. Sending never raises and never waits.
    """

    def listen(self) -> AsyncIterator[Notification]:
        """
        Yield hints until the iterator or the backend is closed.

        It listens from the first `anext` on. In a store without hints it ends at once. A listener that may have
        missed hints first yields one of each topic without a subject, which stands for all.

        Raises:
            BackendUnavailableError: the connection that hears hints was lost, or there is none.
        """
