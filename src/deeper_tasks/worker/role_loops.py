"""The role loops of one worker, by the names of their roles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from deeper_tasks.worker.role import Role, RoleLoop
from deeper_tasks.worker.store_access import StoreAccess


class RoleLoops:
    """
    Holds the loops, so that other parts can wake a role by its name.

    `on_lost` is awaited by a loop whose role learns that the store does not know this worker any more.
    """

    def __init__(self, store: StoreAccess, *, on_lost: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._on_lost = on_lost
        self._loops: dict[str, RoleLoop] = {}

    def __getitem__(self, name: str) -> RoleLoop:
        return self._loops[name]

    def __iter__(self) -> Iterator[RoleLoop]:
        return iter(self._loops.values())

    def add(self, name: str, role: Role, *, always_asks: bool = True) -> RoleLoop:
        """Return the new loop of a role; `always_asks` says that each of its turns asks the store."""
        loop = RoleLoop(name, role, self._store, on_lost=self._on_lost, always_asks=always_asks)
        self._loops[name] = loop
        return loop

    def wake(self, *names: str) -> None:
        """Give these roles their turns now, if the worker has them."""
        for name in names:
            loop = self._loops.get(name)
            if loop is not None:
                loop.wake()
