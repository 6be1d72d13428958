"""The health outlets: the HTTP server and the file through which a worker or a supervisor reports its health."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from deeper_tasks.config import Settings
from deeper_tasks.health import Health, HealthFile, HealthServer


class HealthOutlets:
    """
    The server and the file that the settings name; both exist inside the `with` only.

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
        """The URL of the server; None if the settings name no port."""
        return None if self._server is None else self._server.url

    def refresh(self) -> None:
        """Write the file again if its interval has passed."""
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
