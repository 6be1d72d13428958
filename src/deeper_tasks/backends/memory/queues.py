"""The queues for which something is set."""

from __future__ import annotations

from datetime import datetime

from deeper_tasks.backends.protocol import QueueSettings


class Queues:
    """The settings of queues by name."""

    def __init__(self) -> None:
        self._settings: dict[str, QueueSettings] = {}

    def put(self, settings: QueueSettings) -> None:
        """Set what holds for a queue. A queue that is paused already keeps the time of its first pause."""
        if settings.paused_at is None or self.paused_at(settings.name) is None:
            self._settings[settings.name] = settings

    def names(self) -> frozenset[str]:
        """Return the names of the queues for which something is set."""
        return frozenset(self._settings)

    def all(self) -> list[QueueSettings]:
        """Return all settings, by name."""
        return [self._settings[name] for name in sorted(self._settings)]

    def paused_at(self, name: str) -> datetime | None:
        """Return since when a queue is paused; None if it is not."""
        settings = self._settings.get(name)
        return None if settings is None else settings.paused_at

    def paused(self) -> frozenset[str]:
        """Return the names of the paused queues."""
        return frozenset(name for name in self._settings if self.paused_at(name) is not None)
