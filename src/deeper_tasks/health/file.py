"""The health file: rewritten while the workers are ready, so that a fresh file shows ready workers."""

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
    A JSON file with the answer of `/health`, replaced every two seconds while the workers are ready.

    Raises:
        ConfigError: the folder of the file does not exist, or this user cannot write there.
    """

    def __init__(self, path: str | Path, *, now: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        # Two processes with the same path must not write into the same draft.
        self._draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        self._now = now
        self._written_at: float | None = None
        self._is_failing = False
        try:
            self._path.unlink(missing_ok=True)
            self._draft.touch()
            self._draft.unlink()
        except OSError as error:
            message = f"the health file {str(path)!r} cannot be written: {error.strerror}; name another path"
            raise ConfigError(message) from error

    def refresh(self, health: Health) -> None:
        """Write the file if two seconds have passed and the workers are ready; log the first failure, and try again."""
        now = self._now()
        if not health.ready or (self._written_at is not None and now - self._written_at < _INTERVAL):
            return
        self._written_at = now
        try:
            self._draft.write_text(f"{health.to_json()}\n", "utf-8")
            self._draft.replace(self._path)
        except OSError as error:
            if not self._is_failing:
                _logger.warning("health file %s cannot be written, trying again: %s", self._path, error)
            self._is_failing = True
        else:
            self._is_failing = False

    def remove(self) -> None:
        """Remove the file, because the workers have stopped."""
        for path in (self._draft, self._path):
            with suppress(OSError):
                path.unlink(missing_ok=True)
