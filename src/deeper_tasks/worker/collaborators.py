"""The collaborators of a worker: what its manager, or a test, hands to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.integrations.events import EventBus
from deeper_tasks.tasks import CurrentJob, ManagerIdentity, TaskRegistry
from deeper_tasks.worker.clock import Clock, SystemClock
from deeper_tasks.worker.home import Home, no_home
from deeper_tasks.worker.hooks.hooks import Hooks

Proceed: TypeAlias = Callable[[], Awaitable[Settlement]]
Middleware: TypeAlias = Callable[[CurrentJob, Proceed], Awaitable[Settlement]]
"""Code around each attempt: awaits `proceed()` and returns its settlement, or another. An error fails the attempt."""
Declare: TypeAlias = Callable[[], Awaitable[object]]
"""Puts the recurring tasks that the application declares into the store."""


@dataclass(frozen=True, kw_only=True)
class Collaborators:
    """
    The objects that a worker, a child process in quarantine and the testing kit work with.

    `backend` must be open before the worker runs. `declare` is called once by the scheduler. `home` returns where
    another process can import the manager from. A job's context carries `manager`. Without `availability` the worker
    makes one of its own.
    """

    backend: Backend
    registry: TaskRegistry
    bus: EventBus
    manager: ManagerIdentity | None = None
    middleware: Sequence[Middleware] = ()
    hooks: Hooks = field(default_factory=Hooks)
    clock: Clock = field(default_factory=SystemClock)
    declare: Declare | None = None
    home: Callable[[], Home] = no_home
    redactor: Redactor = field(default_factory=Redactor)
    availability: Availability | None = None
