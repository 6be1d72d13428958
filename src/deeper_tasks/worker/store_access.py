"""The store access of a worker: the backend, whether it answers, and the clock for the pauses between two tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import Backend
from deeper_tasks.worker.clock import Clock
from deeper_tasks.worker.collaborators import Collaborators


@dataclass(frozen=True)
class StoreAccess:
    """The store as each part of one worker reaches it. All parts share one `Availability`."""

    backend: Backend
    availability: Availability
    clock: Clock

    @classmethod
    def of(cls, collaborators: Collaborators) -> Self:
        """Return the access to the store of these collaborators."""
        clock = collaborators.clock
        availability = collaborators.availability
        if availability is None:
            availability = Availability(bus=collaborators.bus, monotonic=clock.monotonic, random=clock.random)
        return cls(collaborators.backend, availability, clock)
