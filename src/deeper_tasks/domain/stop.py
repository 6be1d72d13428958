"""A stop: the reason why an attempt is asked to end before its handler has returned."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Stop(StrEnum):
    """The reason why an attempt is asked to stop."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LOST = "lost"


PRECEDENCE = (Stop.LOST, Stop.CANCEL, Stop.TIMEOUT, Stop.SHUTDOWN)
"""The order of precedence: of several stops the first of these decides how the attempt ends."""


def foremost(stops: Iterable[Stop]) -> Stop | None:
    """Return the stop that decides; None if there is no stop."""
    return min(stops, key=PRECEDENCE.index, default=None)
