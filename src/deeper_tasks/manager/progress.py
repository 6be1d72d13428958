"""The progress of a bulk operation: how many jobs it has dealt with, told to its caller after each batch."""

from __future__ import annotations

import logging
from collections.abc import Callable

_logger = logging.getLogger("deeper_tasks")

OnProgress = Callable[[int], object]
"""Called after each batch with how many jobs there were so far."""


class Tally:
    """
    The number of jobs so far, and the function that is told of it.

    A function that raises is logged, and told no more: the operation goes on, and its caller gets its answer.
    """

    def __init__(self, on_progress: OnProgress | None) -> None:
        self.value = 0
        self._on_progress = on_progress

    def add(self, number: int) -> None:
        """Count a batch; one of no jobs is not told."""
        self.value += number
        if not number or self._on_progress is None:
            return
        try:
            self._on_progress(self.value)
        except Exception:
            self._on_progress = None
            _logger.exception(
                "on_progress failed at %d jobs; it is not called again, and the operation goes on", self.value
            )
