"""The running attempts of a worker, in a group for each of its consumers."""

from __future__ import annotations

from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.worker.attempts.attempt import Attempt


class RunningAttempts:
    """Finds every attempt that runs in a worker. Safe to read from any thread."""

    def __init__(self) -> None:
        self._groups: list[dict[JobId, Attempt]] = []

    def new_group(self) -> dict[JobId, Attempt]:
        """Return an empty group, in which its owner keeps the attempts that it runs, by their jobs."""
        group: dict[JobId, Attempt] = {}
        self._groups.append(group)
        return group

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    def all(self) -> list[Attempt]:
        """Return the attempts that run now."""
        # Each group is copied in one step: the loop watch asks from its own thread.
        return [attempt for group in self._groups for attempt in list(group.values())]

    def get(self, job_id: JobId) -> Attempt | None:
        """Return the attempt of a job; None if it does not run here."""
        for group in self._groups:
            attempt = group.get(job_id)
            if attempt is not None:
                return attempt
        return None

    def token_of(self, job_id: JobId) -> ClaimToken | None:
        """Return the claim token of a job that runs here."""
        attempt = self.get(job_id)
        return None if attempt is None else attempt.job.token
