"""The worker options: the options of a command line `deeper worker`."""

from __future__ import annotations

import sys

from msgspec import Struct

from deeper_tasks.cli.process.worker_logs import JSON, NONE

_RELOAD_GRACE = 2.0
"""Seconds that jobs get to end before a reload, short because a developer waits for it."""


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """The options of the command line; None leaves an option to the settings."""

    application: str
    queues: str | None
    url: str | None
    listen_url: str | None
    grace: float | None
    log_level: str | None
    log_format: str

    def command(self, *, is_reloading: bool) -> tuple[str, ...]:
        """Return the command that runs one worker process with these options."""
        grace = _RELOAD_GRACE if is_reloading and self.grace is None else self.grace
        given = {
            "--queues": self.queues,
            "--url": self.url,
            "--listen-url": self.listen_url,
            "--grace": grace,
            "--log-level": self.log_level,
        }
        options = [f"{name}={value}" for name, value in given.items() if value is not None]
        if self.log_format == JSON:
            # With --json instead of --log-format, an error at the start of the process is JSON too.
            options.append("--json")
        elif self.log_format == NONE:
            options.append(f"--log-format={NONE}")
        return (sys.executable, "-m", "deeper_tasks.cli", "worker", self.application, *options)
