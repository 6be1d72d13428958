"""The application: small tasks of every kind. The environment names the store."""
# ruff: noqa: ARG001 - they all take the same, so that any can be enqueued for any

from __future__ import annotations

from typing import Any

from deeper_tasks import BackgroundTaskManager, Retry, current_job
from deeper_tasks.tasks import Task

manager = BackgroundTaskManager.from_settings()


@manager.task
async def noop(number: int, name: str) -> None:
    """Do nothing."""


@manager.task
async def fail_once(number: int, name: str) -> str:
    """Fail at the first attempt; return something at the second."""
    if current_job().attempt == 1:
        raise Retry(after=0.01)
    return name


@manager.task
async def break_once(number: int, name: str) -> None:
    """Break at the first attempt, with a traceback that is kept."""
    if current_job().attempt == 1:
        raise ValueError(name)


@manager.task
def in_thread(number: int, name: str) -> int:
    """Return something from a thread, and tell how far it is."""
    current_job().progress(0.5, "half")
    return number


@manager.task(executor="process")
def in_process(number: int, name: str) -> int:
    """Return something from a process."""
    return number


MIX: tuple[Task[..., Any], ...] = (
    *[noop] * 24,
    *[fail_once] * 8,
    *[break_once] * 8,
    *[in_thread] * 8,
    *[in_process] * 2,
)
"""How often each task comes where all kinds are mixed."""
