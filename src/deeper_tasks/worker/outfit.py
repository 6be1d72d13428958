"""The outfit: what a manager gives to those who run its jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.integrations.events import EventBus
from deeper_tasks.tasks import ManagerIdentity, TaskRegistry
from deeper_tasks.worker.execution.hooks import Hooks
from deeper_tasks.worker.settings import WorkerSettings


@dataclass(frozen=True, kw_only=True)
class Outfit:
    """The parts of a manager that an attempt needs. `close` lets go of what was opened for it."""

    identity: ManagerIdentity
    backend: Backend
    registry: TaskRegistry
    bus: EventBus
    settings: WorkerSettings
    middleware: tuple[Any, ...]
    hooks: Hooks
    redactor: Redactor
    close: Callable[[], Awaitable[None]]
