"""The tasks that this engine runs in the benchmark."""

from __future__ import annotations

import time

from deeper_tasks import task


@task
async def noop(user_id: int, name: str) -> None:
    """Do nothing, with arguments that are decoded and checked."""


@task
async def start_time() -> int:
    """Return when it started, in nanoseconds of the machine's clock."""
    return time.time_ns()
