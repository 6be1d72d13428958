"""The command `deeper worker`: a process that runs jobs until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable

import click

from deeper_tasks import BackgroundTaskManager, __version__
from deeper_tasks.cli.application import load_manager
from deeper_tasks.cli.program import ExitCode
from deeper_tasks.cli.worker_logs import JSON, LEVELS, TEXT, set_level, start_logging
from deeper_tasks.config import parse_queues, redacted

_logger = logging.getLogger("deeper_tasks")

_LAST_WORDS = 2.0
"""Seconds that tasks and threads get to end after the worker has stopped."""


@click.command(
    epilog="""\b
Examples:
  deeper worker myapp.tasks:manager
  deeper worker myapp.tasks:manager --queues default:20,emails:5
  deeper worker myapp.tasks:manager --url sqlite:////var/lib/myapp/tasks.db
  deeper worker myapp.tasks:manager --log-format json --log-level warning

\b
Exit codes: 0 stopped in order; 2 wrong usage; 4 the store cannot be used;
75 a task ignored its timeout, and only a new process has its slot back."""
)
@click.argument("application", metavar="MODULE:MANAGER")
@click.option("--queues", metavar="NAME:SLOTS,…", help="The queues to serve, and how many jobs of each run at once.")
@click.option("--url", metavar="URL", help="The store, in place of the manager's own.")
@click.option(
    "--grace", type=click.FloatRange(min=0), metavar="SECONDS", help="How long to wait for running jobs at the stop."
)
@click.option("--log-level", type=click.Choice(LEVELS, case_sensitive=False), help="Default: the setting, else info.")
@click.option("--log-format", type=click.Choice([TEXT, JSON]), default=TEXT, show_default=True)
@click.option("--json", "log_format", flag_value=JSON, help="The same as --log-format json.")
def worker(
    *,
    application: str,
    queues: str | None,
    url: str | None,
    grace: float | None,
    log_level: str | None,
    log_format: str,
) -> int:
    """
    Run jobs until SIGTERM or Ctrl-C.

    MODULE:MANAGER is where your application's manager is, such as
    myapp.tasks:manager; it is looked for from the working folder. The first
    signal stops in order: no new jobs, and those that run may finish within the
    grace period. A second one gives them back at once, without using an attempt.
    """
    handler = start_logging(log_format)
    manager = load_manager(application)
    if url is not None:
        manager.use_store(url)
    set_level(handler, asked=log_level, setting=manager.settings.log_level)
    slots = manager.settings.queues if queues is None else parse_queues(queues)
    grace = manager.settings.shutdown_grace_seconds if grace is None else grace

    def greet() -> None:
        if log_format == TEXT:
            click.echo(_banner(manager, application, slots, grace), err=True)
        else:
            _logger.info("deeper %s, worker of %s", __version__, application, extra={"store": _store(manager)})

    code = asyncio.run(_work(manager, slots, grace=grace, greet=greet))
    _wait_for_threads(code)
    return code


async def _work(
    manager: BackgroundTaskManager, slots: dict[str, int], *, grace: float, greet: Callable[[], None]
) -> ExitCode:
    """Run a worker to its end, and leave no task of the loop behind."""
    try:
        # Greeted once the signals are handled: who reads it may stop the worker in order.
        ended = await manager.run_worker(slots, shutdown_grace_seconds=grace, on_start=lambda _: greet())
    finally:
        await manager.close()
    code = ExitCode.STUCK if ended.is_stuck else ExitCode.DONE
    if ended.is_stuck:
        _logger.error("a task ignored its timeout and cannot be stopped; this process ends, start the worker again")
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others and (await asyncio.wait(others, timeout=_LAST_WORDS))[1]:
        _leave(code)
    return code


def _wait_for_threads(code: ExitCode) -> None:
    """End the process here if a thread does not end: the interpreter would wait for it for ever."""
    deadline = time.monotonic() + (0 if code is ExitCode.STUCK else _LAST_WORDS)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0, deadline - time.monotonic()))
            if thread.is_alive():
                _leave(code)


def _leave(code: ExitCode) -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _banner(manager: BackgroundTaskManager, application: str, slots: dict[str, int], grace: float) -> str:
    return f"""\
deeper {__version__}, worker of {application}
  store   {_store(manager)}
  queues  {", ".join(f"{name}:{count}" for name, count in slots.items())}
  tasks   {len(list(manager.registry)) or "none: does the module import those that define them?"}
  pid     {os.getpid()}
  stop    Ctrl-C or SIGTERM: running jobs have {grace:g} s to finish; a second one gives them back at once"""


def _store(manager: BackgroundTaskManager) -> str:
    abilities = manager.backend.capabilities
    url = redacted(manager.settings.url)
    if not abilities.runs_jobs:
        return f"{url} (switched off: no job runs)"
    return url if abilities.is_shared else f"{url} (seen by this process alone)"
