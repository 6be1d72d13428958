"""The store of a test, which a manager works on while the test lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Lock
from weakref import WeakKeyDictionary

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.protocol import Backend
from deeper_tasks.manager import BackgroundTaskManager
from deeper_tasks.testing.clock import ManualClock
from deeper_tasks.testing.clocked import ClockedBackend
from deeper_tasks.testing.faulty import FaultyBackend
from deeper_tasks.testing.inline import inline
from deeper_tasks.testing.kit import TaskKit
from deeper_tasks.testing.turns import Turns

_PATIENCE = 10.0
_turns: WeakKeyDictionary[BackgroundTaskManager, Turns] = WeakKeyDictionary()
_lock = Lock()


@contextmanager
def use_memory(
    manager: BackgroundTaskManager, *, start: datetime | None = None, patience: float = _PATIENCE
) -> Iterator[TaskKit]:
    """
    Let a manager, with its tasks and settings, work on an empty store in memory inside the `with`.

    Afterwards the manager has its own store back, open or closed as before. Tasks, middleware and subscribers that the
    test registers stay. `start` is the first time of the clock, by default the real time; `patience` is how many real
    seconds a job may take to end.

    Uses may stand in each other. The manager works on the store of the use that began last and has not ended, in
    whatever order they end, and on its own store after the last of them.

    Raises:
        OverlapError: another asyncio task or thread, which runs at the same time, uses a store for this manager.
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
    """
    Let a manager work on any store, by a test's clock, inside the `with`. The caller closes the store.

    Raises:
        OverlapError: as `use_memory` does.
    """
    clock = ManualClock(start)
    with _lent(manager, ClockedBackend(backend, now=clock.now), clock, patience=patience) as kit:
        yield kit


@contextmanager
def _lent(manager: BackgroundTaskManager, store: Backend, clock: ManualClock, *, patience: float) -> Iterator[TaskKit]:
    faults = FaultyBackend(store)
    kit = TaskKit(manager, store=store, faults=faults, clock=clock, patience=patience)
    core = manager.core
    parts = inline(core.assemble(faults, store_name="that of this test"), run=kit.run_inline)
    with _turns_of(manager).taken(), core.exchanged(parts):
        try:
            yield kit
        finally:
            faults.restore()
            kit.end()


def _turns_of(manager: BackgroundTaskManager) -> Turns:
    with _lock:
        return _turns.setdefault(
            manager,
            Turns(
                f"{manager!r} is on the store of another test, which runs at the same time in this process; give each "
                "test a manager of its own, or run the tests one after the other or in separate processes, as "
                "pytest-xdist does"
            ),
        )
