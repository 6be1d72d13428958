"""Waiting: for what a real server does in its own time, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 60.0
"""Seconds after which a server on a busy machine is taken for broken."""

_LOOK = 0.005

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, *, seconds: float = PATIENCE) -> T:
    """Return what `condition` gives as soon as that is true; `TimeoutError` names `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"after {seconds:g} s still no {what}")
        time.sleep(_LOOK)
    return found
