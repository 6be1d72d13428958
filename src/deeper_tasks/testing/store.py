"""The store of a test, which a manager works on while the test lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.protocol import Backend
from deeper_tasks.manager import BackgroundTaskManager
from deeper_tasks.testing.clock import ManualClock
from deeper_tasks.testing.clocked import ClockedBackend
from deeper_tasks.testing.faulty import FaultyBackend
from deeper_tasks.testing.kit import TaskKit

_PATIENCE = 10.0


@contextmanager
def use_memory(
    manager: BackgroundTaskManager, *, start: datetime | None = None, patience: float = _PATIENCE
) -> Iterator[TaskKit]:
    """
    Let a manager, with its tasks and settings, work on an empty store in memory inside the `with`.

    Afterwards the manager has its own store back, open or closed as before. Tasks, middleware and subscribers that the
    test registers stay. `start` is the first time of the clock, by default the real time; `patience` is how many real
    seconds a job may take to end.
    """
    clock = ManualClock(start)
    with _lent(manager, MemoryBackend(now=clock.now), clock, patience=patience) as kit:
        yield kit


@contextmanager
def use_store(
    manager: BackgroundTaskManager,
    backend: Backend,
    *,
    start: datetime | None = None,
    patience: float = _PATIENCE,
) -> Iterator[TaskKit]:
    """Let a manager work on any store, by a test's clock, inside the `with`. The caller closes the store."""
    clock = ManualClock(start)
    with _lent(manager, ClockedBackend(backend, now=clock.now), clock, patience=patience) as kit:
        yield kit


@contextmanager
def _lent(manager: BackgroundTaskManager, store: Backend, clock: ManualClock, *, patience: float) -> Iterator[TaskKit]:
    faults = FaultyBackend(store)
    kit = TaskKit(manager, store=store, faults=faults, clock=clock, patience=patience)
    core = manager.core
    had_thread = core.thread.is_running
    with core.exchanged(core.assemble(faults, store_name="that of this test")):
        try:
            yield kit
        finally:
            faults.restore()
            kit.end()
            # The thread behind `manager.sync` ends with the test that was the first to use it.
            # Not by closing `manager.sync`, which would close the store too.
            if not had_thread:
                core.thread.stop()
