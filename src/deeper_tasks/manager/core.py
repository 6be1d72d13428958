"""The core of a manager: what all areas of its facade share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.config import Settings
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.integrations.events import EventBus
from deeper_tasks.manager.jobs import AnyTask
from deeper_tasks.manager.known_tasks import KnownTasks
from deeper_tasks.manager.parts import Parts, assemble
from deeper_tasks.sync import LoopThread
from deeper_tasks.tasks import Enqueuer, ManagerIdentity, TaskRegistry
from deeper_tasks.worker.collaborators import Middleware
from deeper_tasks.worker.hooks.hooks import Hooks


class ManagerCore:
    """
    The settings, events and tasks of one manager, what goes around its jobs, and the parts for its store.

    Attributes:
        identity: by which the jobs that its workers run know the manager.
        thread: carries out the blocking calls of `manager.sync`.
        parts: what works on the store; another store, or the testing kit, brings others.
    """

    def __init__(self, *, settings: Settings, enqueuer: Enqueuer, backend: Backend | None = None) -> None:
        self.settings = settings
        self.identity = ManagerIdentity()
        self.events = EventBus()
        self.tasks = KnownTasks(
            TaskRegistry(allowed_modules=settings.allowed_modules, admit=self._admit), enqueuer=enqueuer
        )
        self.redactor = Redactor(names=settings.redact_names, patterns=settings.redact_patterns)
        self.hooks = Hooks()
        self.middleware: list[Middleware] = []
        self.thread = LoopThread("deeper-sync")
        self.parts = self.assemble(backend)

    @property
    def lease(self) -> timedelta:
        """For how long a worker counts as alive after its last sign of life."""
        return timedelta(seconds=self.settings.lease_seconds)

    def assemble(self, backend: Backend | None = None, *, store_name: str | None = None) -> Parts:
        """Return parts for a store, by default the one that the settings name. They are not put to use."""
        return assemble(
            self.settings, events=self.events, identity=self.identity, backend=backend, store_name=store_name
        )

    def move_to(self, settings: Settings) -> None:
        """
        Work by other settings, and on the store that they name.

        Raises:
            UnsupportedError, InvalidOptionError: a task is transactional, and there it cannot be; nothing has changed.
        """
        parts = assemble(settings, events=self.events, identity=self.identity)
        for task in self.tasks.registry:
            parts.terms.check(task, task.request)
        self.settings, self.parts = settings, parts

    @contextmanager
    def exchanged(self, parts: Parts) -> Iterator[None]:
        """Work with other parts inside the `with`, and with the former ones and their settings afterwards."""
        before = self.settings, self.parts
        self.parts = parts
        try:
            yield
        finally:
            self.settings, self.parts = before

    def _admit(self, task: AnyTask) -> None:
        self.parts.terms.check(task, task.request)
