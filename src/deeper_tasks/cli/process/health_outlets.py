"""The health outlets: where a worker, or its supervisor, tells those outside how it is."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from deeper_tasks.config import Settings
from deeper_tasks.health import Health, HealthFile, HealthServer


class HealthOutlets:
    """
    The server and the file that the settings name, as long as the context lasts.

    Raises:
        ConfigError: the address or the path cannot be used.
    """

    def __init__(self, settings: Settings, *, health: Callable[[], Health]) -> None:
        port = settings.health_port
        self._health = health
        self._file = None if settings.health_file is None else HealthFile(settings.health_file)
        self._server = None if port is None else HealthServer(host=settings.health_host, port=port, health=health)

    @property
    def url(self) -> str | None:
        """Where the health is served; None: nowhere."""
        return None if self._server is None else self._server.url

    def refresh(self) -> None:
        """Write the file anew if it is due."""
        if self._file is not None:
            self._file.refresh(self._health())

    def __enter__(self) -> Self:
        if self._server is not None:
            self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.stop()
        if self._file is not None:
            self._file.remove()
