"""The core of a manager: what all areas of its facade share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from msgspec import Struct

from deeper_tasks import native
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


class _Setup(Struct, eq=False):
    """The settings and the parts that a manager works with, for a while or always."""

    settings: Settings
    parts: Parts


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
        self._setups = [_Setup(self.settings, self.parts)]
        self._had_thread = False
        self._lock = native.allocate_lock()

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
        with self._lock:
            current = self._setups[-1]
            current.settings, current.parts = self.settings, self.parts = settings, parts

    @contextmanager
    def exchanged(self, parts: Parts) -> Iterator[None]:
        """
        Work with other parts inside the `with`.

        Of several exchanges that have not ended, the one that began last holds, in whatever order they end. After the
        last of them the manager has its own parts and settings back, and the thread of its blocking calls has ended if
        none had run before the first.
        """
        setup = self._begin(parts)
        try:
            yield
        finally:
            self._end(setup)

    def _begin(self, parts: Parts) -> _Setup:
        with self._lock:
            if len(self._setups) == 1:
                self._had_thread = self.thread.is_running
            self.parts = parts
            setup = _Setup(self.settings, parts)
            self._setups.append(setup)
            return setup

    def _end(self, setup: _Setup) -> None:
        with self._lock:
            self._setups.remove(setup)
            current = self._setups[-1]
            self.settings, self.parts = current.settings, current.parts
            is_last = len(self._setups) == 1
        if is_last and not self._had_thread:
            # `manager.sync.close` would close the manager's own store too.
            self.thread.stop()

    def _admit(self, task: AnyTask) -> None:
        self.parts.terms.check(task, task.request)
