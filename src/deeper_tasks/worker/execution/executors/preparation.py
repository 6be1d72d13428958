"""The preparation: the time before a process can run a job, and how long the worker waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.worker.execution.executors import frames
from deeper_tasks.worker.execution.executors.frames import Busy, Frame

_logger = logging.getLogger("deeper_tasks")

LONGEST = 600.0
"""Seconds that the import of the application may take in a process, and then the start hooks."""
_PATIENCE = 10.0
"""Seconds until the log says what a job waits for, and again after twice the time."""


class Preparation:
    """The preparation of one process. `doing` says what it is busy with, in its own words."""

    def __init__(self) -> None:
        self.doing = "its start"

    async def read(self, reader: asyncio.StreamReader) -> Frame | None:
        """
        Return the frame that the process sends when it is ready; None if it has closed the connection.

        Raises:
            GarbledError: it sent no frame.
            TimeoutError: it took too long; the message says what it was busy with.
        """
        try:
            async with asyncio.timeout(LONGEST):
                while isinstance(frame := await frames.read(reader), Busy):
                    self.doing = frame.doing
                return frame
        except TimeoutError:
            raise TimeoutError(f"{self.doing} did not end within {readable(LONGEST)}") from None


async def wait_for_first(waited: Iterable[asyncio.Future[Any]], *, job: ClaimedJob, doing: Callable[[], str]) -> None:
    """Wait until one of these is done; after a long wait, log what the job's process is busy with."""
    futures, patience, began = set(waited), _PATIENCE, time.monotonic()
    while not (await asyncio.wait(futures, timeout=patience, return_when=asyncio.FIRST_COMPLETED))[0]:
        _logger.warning(
            "the job %s of %s has waited %s for its process, which is busy with %s",
            job.id,
            job.task,
            readable(time.monotonic() - began),
            doing(),
            extra={"job_id": job.id, "task": job.task, "queue": job.queue},
        )
        patience *= 2
