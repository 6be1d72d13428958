"""The demands of one call of the testing kit: how much it may run, and how long it waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.testing.summary import Run


class TooManyRunsError(AssertionError):
    """One call of the kit ran more attempts than its limit: a chain of jobs that has no end, most likely."""


class StuckJobError(AssertionError):
    """A job took longer in real time than the kit waits."""


class Demands(Struct, frozen=True, kw_only=True):
    """
    At most `limit` attempts run, and each may take `patience` real seconds without an end.

    `raise_errors` says that the first exception that fails an attempt is raised, once it is recorded.
    A job that becomes due after `until` is not started, however far another job takes the clock.
    `recurring` says whether recurring tasks fire.
    """

    limit: int
    patience: float
    raise_errors: bool = False
    until: datetime | None = None
    recurring: bool = True

    def too_many(self, runs: Sequence[Run], *, next_task: str) -> TooManyRunsError:
        """Return the error that says what has run, and what to do."""
        message = f"{self.limit} attempts have run and more are pending ({next_task} is next)"
        if runs:
            [(task, count)] = Counter(run.task for run in runs).most_common(1)
            message += f", {count} of {task}"
        leave_out = "leave out recurring tasks with advance(…, recurring=False), or " if self.recurring else ""
        return TooManyRunsError(
            f"{message}; if jobs do not enqueue each other without end, {leave_out}give a higher limit=…"
        )

    def stuck(self, job: ClaimedJob) -> StuckJobError:
        """Return the error that names a job without an end, and says what to do."""
        return StuckJobError(
            f"{job.task} ({job.id}) has not ended within {readable(self.patience)} of real time; "
            "let long steps pass their time with kit.sleep(…), or give the kit more patience=…"
        )
