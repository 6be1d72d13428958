"""Supervision: runs several worker processes, or one that is restarted when it ends or when files change."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from deeper_tasks.cli.process.health_outlets import HealthOutlets
from deeper_tasks.cli.process.worker_logs import NONE, TEXT, set_level, start_logging
from deeper_tasks.cli.process.worker_options import WorkerOptions
from deeper_tasks.cli.rendering.banner import greet
from deeper_tasks.config import Settings
from deeper_tasks.supervisor import Loaded, Supervisor, SupervisorSettings


def supervise(options: WorkerOptions, settings: Settings, *, reload_folders: tuple[Path, ...] = ()) -> int:
    """
    Run the supervisor until a signal stops it, and return the exit code.

    The application is not imported into this process.
    """
    # With "none" the application sets up logging, but it is not imported here.
    handler = start_logging(TEXT if options.log_format == NONE else options.log_format)
    set_level(handler, asked=options.log_level, setting=settings.log_level)
    # At INFO watchfiles counts the changed files, which the supervisor logs by name.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    return asyncio.run(_supervise(options, settings, reload_folders))


async def _supervise(options: WorkerOptions, settings: Settings, reload_folders: tuple[Path, ...]) -> int:
    def on_loaded(loaded: Loaded, children: list[int]) -> None:
        greet(options.application, loaded, log_format=options.log_format, children=children, health=outlets.url)

    supervisor = Supervisor(
        SupervisorSettings(
            command=options.command(is_reloading=bool(reload_folders)),
            processes=settings.processes,
            silence_limit=settings.silence_limit_seconds,
            reload_folders=reload_folders,
        ),
        greet=on_loaded,
        on_look=lambda: outlets.refresh(),  # noqa: PLW0108 - `outlets` does not exist yet at this line
    )
    with HealthOutlets(settings, health=supervisor.health) as outlets:
        return await supervisor.run()
