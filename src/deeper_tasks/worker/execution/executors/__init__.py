"""The executors: where a task's code runs, and how it is stopped there."""

from __future__ import annotations

from typing import Protocol

from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution.call import Call


class Executor(Protocol):
    """
    Runs calls. While the code runs, `attempt.interrupt` stops it.

    `run` returns only after the code has stopped, whatever happened to it.
    """

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Run a call to its end. Raises UnfitArgumentsError before anything ran."""

    async def close(self) -> None:
        """Give back what the executor holds. Code that still runs is abandoned, or killed where it can be."""
