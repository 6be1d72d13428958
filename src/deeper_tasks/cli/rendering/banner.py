"""The banner: the lines with which a worker or a supervisor announces its start."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

import click

from deeper_tasks import BackgroundTaskManager, __version__
from deeper_tasks.cli.process.worker_logs import TEXT
from deeper_tasks.domain.durations import readable
from deeper_tasks.supervisor import Loaded

_logger = logging.getLogger("deeper_tasks")

_STOP = "Ctrl-C or SIGTERM: running jobs have {} to finish; a second signal releases them at once"


def greet(
    application: str, loaded: Loaded, *, log_format: str, children: Sequence[int] = (), health: str | None = None
) -> None:
    """Write the banner on stderr; log it instead if the log format is not text."""
    if log_format == TEXT:
        # A worker must start even if its stderr is a closed pipe.
        with suppress(OSError):
            click.echo("\n".join(_lines(application, loaded, children, health)), err=True)
        return
    fields = {"store": loaded.store, "queues": loaded.queues, "pid": os.getpid(), "children": list(children)}
    _logger.info("deeper %s, worker of %s", __version__, application, extra=fields | {"health": health})


def store_of(manager: BackgroundTaskManager) -> str:
    """Return the manager's store without its password, with a note if no job runs there or no other process sees it."""
    abilities = manager.backend.capabilities
    store = manager.shown_store
    if not abilities.runs_jobs:
        return f"{store} (tasks are disabled: no job runs)"
    return store if abilities.is_shared else f"{store} (only this process sees its jobs)"


def _lines(application: str, loaded: Loaded, children: Sequence[int], health: str | None) -> list[str]:
    each = f" in each of {len(children)} processes" if len(children) > 1 else ""
    supervised = f", supervises {', '.join(map(str, children))}" if children else ""
    # Under nohup SIGHUP is ignored.
    is_heard = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    restart = "; SIGHUP restarts" if children and is_heard else ""
    return [
        f"deeper {__version__}, worker of {application}",
        f"  store   {loaded.store}",
        f"  queues  {', '.join(f'{name}:{count}' for name, count in loaded.queues.items())}{each}",
        f"  tasks   {loaded.tasks or 'none: does the module import the modules that define them?'}",
        f"  pid     {os.getpid()}{supervised}",
        *([f"  health  {health}"] if health else []),
        f"  stop    {_STOP.format(readable(loaded.grace))}{restart}",
    ]
