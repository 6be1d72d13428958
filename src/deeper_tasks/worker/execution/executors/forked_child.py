"""A forked child, as the worker sees it, and the errors that say how it died."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from deeper_tasks.worker.execution.executors.frames import Exited


class ProcessDiedError(Exception):
    """The child process ended before its job did: a crash, `os._exit`, or a kill by the kernel for want of memory."""


class MemoryLimitError(ProcessDiedError, MemoryError):
    """The job, with all that it started, used more memory than its limit, and was killed."""


class ForkedChild:
    """
    One child: its connection, and its end.

    `is_started` is set when its start hooks have run. `is_orphaned` says that it ended with the zygote, like all
    others. `fault` says what it did wrong, if the worker has it killed for that.
    """

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.reader = reader
        self.writer = writer
        self.is_started = False
        self.is_orphaned = False
        self.fault: str | None = None
        self.exited: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()

    async def until_exited(self) -> None:
        """Return when the process has ended, however often the waiting task is cancelled."""
        while not self.exited.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({self.exited})

    def error(self, exited: Exited, over_limit: str) -> ProcessDiedError:
        """Return why the child died; `over_limit` is the message if it was killed for its memory."""
        if exited.is_over_limit:
            return MemoryLimitError(over_limit)
        is_killed_here = self.fault is not None and exited.code == -signal.SIGKILL
        reason = f"{self.fault} and was killed" if is_killed_here else _describe(exited.code)
        return ProcessDiedError(f"the process that ran this job {reason}")


def _describe(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was ended by signal {-code}"
