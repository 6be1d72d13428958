"""Backend: a whole store, composed of its roles."""

from __future__ import annotations

from typing import Protocol

from deeper_tasks.backends.protocol.consuming import Consuming
from deeper_tasks.backends.protocol.control import Control
from deeper_tasks.backends.protocol.hints import Hints
from deeper_tasks.backends.protocol.jobs import Jobs
from deeper_tasks.backends.protocol.lifecycle import Lifecycle
from deeper_tasks.backends.protocol.maintenance import Maintenance
from deeper_tasks.backends.protocol.progress import Progress
from deeper_tasks.backends.protocol.reads import Reads
from deeper_tasks.backends.protocol.schedules import Schedules


class Backend(Lifecycle, Jobs, Consuming, Progress, Maintenance, Schedules, Control, Reads, Hints, Protocol):
    """A store. The rules that hold for all of its methods stand at the head of the package."""
