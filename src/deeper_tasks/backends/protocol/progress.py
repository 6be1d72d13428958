"""Progress: the role of keeping news of attempts that still run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.settlement import Report


class Progress(Protocol):
    """A store that keeps the start, the progress, the notes and the log lines of running attempts."""

    async def report(self, reports: Sequence[Report], *, now: datetime | None = None) -> list[JobId]:
        """Write news of running attempts; return the ids whose token still holds."""
