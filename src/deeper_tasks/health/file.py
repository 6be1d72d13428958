"""The health file: written anew while the workers are ready, so that its age tells whether they are."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deeper_tasks.errors import ConfigError
from deeper_tasks.health.health import Health

_logger = logging.getLogger("deeper_tasks")

_INTERVAL = 2.0


class HealthFile:
    """
    A JSON file of the same shape as `/health`, replaced as a whole every two seconds while all is ready.

    Raises:
        ConfigError: there is no folder for it, or it cannot be written there.
    """

    def __init__(self, path: str | Path, *, now: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        # The process's id keeps two that were given the same path from writing into one another's.
        self._draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        self._now = now
        self._written_at: float | None = None
        self._is_failing = False
        try:
            self._path.unlink(missing_ok=True)
            self._draft.touch()
            self._draft.unlink()
        except OSError as error:
            message = f"the health file {str(path)!r} cannot be written: {error.strerror}; name another"
            raise ConfigError(message) from error

    def refresh(self, health: Health) -> None:
        """Write it if it is due; what cannot be written is logged once, and tried again."""
        now = self._now()
        if not health.ready or (self._written_at is not None and now - self._written_at < _INTERVAL):
            return
        self._written_at = now
        try:
            self._draft.write_text(f"{health.to_json()}\n", "utf-8")
            self._draft.replace(self._path)
        except OSError as error:
            if not self._is_failing:
                _logger.warning("the health file %s cannot be written, trying again: %s", self._path, error)
            self._is_failing = True
        else:
            self._is_failing = False

    def remove(self) -> None:
        """Take it away: the workers have stopped."""
        for path in (self._draft, self._path):
            with suppress(OSError):
                path.unlink(missing_ok=True)
