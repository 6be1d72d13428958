"""The progress of a bulk operation: the number of jobs so far, passed to its caller after each batch."""

from __future__ import annotations

import logging
from collections.abc import Callable

_logger = logging.getLogger("deeper_tasks")

OnProgress = Callable[[int], object]
"""Called after each batch with the number of jobs so far."""


class Tally:
    """
    The number of jobs so far, and the function that is called with it.

    If the function raises, the error is logged and the function is not called again. The operation goes on.
    """

    def __init__(self, on_progress: OnProgress | None) -> None:
        self.value = 0
        self._on_progress = on_progress

    def add(self, number: int) -> None:
        """Count a batch, and call the function unless the batch is empty."""
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
