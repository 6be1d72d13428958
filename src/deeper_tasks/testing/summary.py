"""A summary: the attempts that the kit ran."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import StrEnum

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.view import View


class RunEnd(StrEnum):
    """The end of one attempt, as the state of its job or the reason why it ended."""

    COMPLETED = "completed"
    RETRYABLE = "retryable"
    FAILED = "failed"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    SNOOZED = "snoozed"
    RELEASED = "released"
    """Given back without an attempt: its task is unknown here, for example."""


class Run(View, frozen=True, kw_only=True):
    """One attempt that the kit ran: of which job, when by the kit's clock, how it ended and why."""

    job_id: JobId
    task: str
    queue: str
    attempt: int
    started_at: datetime
    end: RunEnd
    error: str | None = None


class Summary(View, frozen=True, kw_only=True):
    """
    The attempts that one call of the kit ran, in order.

    A job that is tried three times is there three times; `completed` and the
    like count attempts, and `ids` names the jobs.
    """

    runs: tuple[Run, ...] = ()

    def __len__(self) -> int:
        return len(self.runs)

    def __str__(self) -> str:
        counts = Counter(run.end for run in self.runs)
        return ", ".join(f"{counts[end]} {end}" for end in RunEnd if counts[end]) or "nothing ran"

    def count(self, end: RunEnd | str) -> int:
        """Return how many attempts ended so."""
        return sum(1 for run in self.runs if run.end == RunEnd(end))

    def ids(self, end: RunEnd | str | None = None) -> list[JobId]:
        """Return the jobs, each once in the order of their first run; only those with an attempt that ended so."""
        wanted = (run for run in self.runs if end is None or run.end == RunEnd(end))
        return list(dict.fromkeys(run.job_id for run in wanted))

    @property
    def completed(self) -> int:
        """How many attempts completed their job."""
        return self.count(RunEnd.COMPLETED)

    @property
    def retryable(self) -> int:
        """How many attempts failed and are followed by another."""
        return self.count(RunEnd.RETRYABLE)

    @property
    def failed(self) -> int:
        """How many attempts ended their job by an error that no retry can mend."""
        return self.count(RunEnd.FAILED)

    @property
    def discarded(self) -> int:
        """How many attempts failed as the last of their job."""
        return self.count(RunEnd.DISCARDED)

    @property
    def cancelled(self) -> int:
        """How many attempts ended because their job was cancelled."""
        return self.count(RunEnd.CANCELLED)

    @property
    def snoozed(self) -> int:
        """How many attempts snoozed their job."""
        return self.count(RunEnd.SNOOZED)


def run_end(settlement: Settlement, state: State) -> RunEnd:
    """Return how an attempt ended that was settled so and led to this state."""
    if state in _BY_STATE:
        return _BY_STATE[state]
    return RunEnd.SNOOZED if settlement.end is End.SNOOZE else RunEnd.RELEASED


_BY_STATE = {
    State.COMPLETED: RunEnd.COMPLETED,
    State.RETRYABLE: RunEnd.RETRYABLE,
    State.FAILED: RunEnd.FAILED,
    State.DISCARDED: RunEnd.DISCARDED,
    State.CANCELLED: RunEnd.CANCELLED,
}
