"""The health of the store as a worker sees it: reported when it goes and when it is back, not at every try."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from deeper_tasks.integrations.events import EventBus, StoreRecovered, StoreUnavailable
from deeper_tasks.worker.clock import Clock


class StoreHealth:
    """Whether the store answers."""

    def __init__(self, *, bus: EventBus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._failing_since: float | None = None
        self._on_back: list[Callable[[], None]] = []

    @property
    def is_working(self) -> bool:
        """Whether the last call was answered."""
        return self._failing_since is None

    def on_back(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when the store is back: whoever pauses after failures need not find out by itself."""
        self._on_back.append(wake)

    def mark_failing(self, error: Exception) -> None:
        """Note that a call failed."""
        if self._failing_since is None:
            self._failing_since = self._clock.monotonic()
            self._bus.emit(StoreUnavailable(error=str(error)))

    def mark_working(self) -> None:
        """Note that a call was answered."""
        if self._failing_since is not None:
            after = timedelta(seconds=self._clock.monotonic() - self._failing_since)
            self._failing_since = None
            self._bus.emit(StoreRecovered(after=after))
            for wake in self._on_back:
                wake()
