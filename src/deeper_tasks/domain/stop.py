"""A stop: why an attempt is to end before its handler has come to its end."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Stop(StrEnum):
    """Why an attempt is told to stop."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LOST = "lost"


PRECEDENCE = (Stop.LOST, Stop.CANCEL, Stop.TIMEOUT, Stop.SHUTDOWN)
"""Of several stops the first of these decides how the attempt ends."""


def foremost(stops: Iterable[Stop]) -> Stop | None:
    """Return the stop that decides; None: there is none."""
    return min(stops, key=PRECEDENCE.index, default=None)
