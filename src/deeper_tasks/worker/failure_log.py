"""The failure log of a part of the worker: each of its failures is logged once."""

from __future__ import annotations

import logging
import re
from contextlib import suppress

_logger = logging.getLogger("deeper_tasks")


class FailureLog:
    """
    Logs an error of a part that tries again, with its traceback, unless the failure before was the same.

    `words` say what the error did to the part `name`. Nothing here raises, even if a log handler of the application
    fails.
    """

    def __init__(self, name: str, *, words: str = "met an unexpected error and goes on") -> None:
        self._name = name
        self._words = words
        self._logged: str | None = None

    def tell(self, error: BaseException) -> None:
        """Log an error; the same error again is logged at the level DEBUG only, because it would fill the log."""
        with suppress(BaseException):
            # Errors that differ only in numbers, as of processes and rows, count as the same.
            met = f"{type(error)}{re.sub(r'[0-9]+', '', str(error))}"
            is_new, self._logged = met != self._logged, met
            if is_new:
                words = f"the %s {self._words}; while it stays the same, it is not logged again"
                _logger.error(words, self._name, exc_info=error)
            else:
                _logger.debug("the %s met the same error again: %s", self._name, error)

    def tell_of_recovery(self) -> None:
        """Log that the part works, if its last try failed."""
        if self._logged is not None:
            self._logged = None
            with suppress(BaseException):
                _logger.info("the %s works again", self._name)
