"""Executors: run a task's code on the loop, in a thread or in a process, and stop it there."""

from __future__ import annotations

from typing import Protocol

from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution.call import Call


class Executor(Protocol):
    """
    Runs calls. While the code runs, `attempt.interrupt` stops it.

    `run` returns only after the code has stopped, however it ended.
    """

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Run a call to its end. Raises UnfitArgumentsError before anything ran."""

    async def close(self) -> None:
        """Release the executor's threads and processes. Code that still runs is killed if possible, or left."""
