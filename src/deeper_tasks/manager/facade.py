"""The facade: the functions of a manager for its store, async."""

from __future__ import annotations

from abc import ABC, abstractmethod

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import Backend
from deeper_tasks.config import Settings
from deeper_tasks.integrations.events import EventBus
from deeper_tasks.manager.areas import (
    ControlArea,
    EnqueueArea,
    LifeArea,
    NamespaceHolder,
    Queues,
    ReadingArea,
    RecurringArea,
)
from deeper_tasks.manager.core import ManagerCore
from deeper_tasks.tasks import BlockingEnqueuer, ForeignManagerNames, ManagerIdentity, TaskRegistry


class Facade(LifeArea, EnqueueArea, RecurringArea, ControlArea, ReadingArea, NamespaceHolder, ForeignManagerNames, ABC):
    """
    Enqueue, watch and control work in one store.

    The store is opened at the first use, or by `async with`, which also closes it.

    Attributes:
        core: what its areas share. It is inside, and may change.
        queues: the functions for whole queues.
    """

    def __init__(self, *, settings: Settings, backend: Backend | None = None) -> None:
        self.core = ManagerCore(settings=settings, enqueuer=self, backend=backend)
        super().__init__(self.core)
        self.queues = Queues(self.core)

    @property
    @abstractmethod
    def sync(self) -> BlockingEnqueuer:
        """Its blocking form."""

    @property
    def shown_store(self) -> str:
        """
        The store as it may be shown: its URL without secrets, or the class of a `backend` that was given, and the
        absolute path of its file, if it has one.
        """
        return self.core.parts.terms.store

    # inside

    @property
    def settings(self) -> Settings:
        """The settings that it works by."""
        return self.core.settings

    @property
    def events(self) -> EventBus:
        """The bus that brings its events, and those of its workers, to subscribers."""
        return self.core.events

    @property
    def registry(self) -> TaskRegistry:
        """The tasks that it knows."""
        return self.core.tasks.registry

    @property
    def identity(self) -> ManagerIdentity:
        """The identity of this manager among those of the process."""
        return self.core.identity

    @property
    def backend(self) -> Backend:
        """The store."""
        return self.core.parts.backend

    @property
    def availability(self) -> Availability:
        """Whether the store answers, as far as this manager knows."""
        return self.core.parts.availability
