"""
A worker process: `python -m workshop.worker [module]`, set up by the environment; its log is JSON on stderr.

It works for the manager of the module named, or for one of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.integrations.log_formatters import JsonFormatter


async def work(modules: list[str]) -> None:
    """Run jobs until told to stop."""
    chosen = importlib.import_module(modules[0]).manager if modules else BackgroundTaskManager.from_settings()
    async with chosen as manager:
        await manager.run_worker()


def log_as_json() -> None:
    """Log from INFO on, a line a message."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    log_as_json()
    asyncio.run(work(sys.argv[1:]))
