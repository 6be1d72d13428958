"""The worker state: what the start hooks made for the jobs of a process, such as pools and clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class WorkerState:
    """
    A namespace that all jobs of a process share: `current_job().state.pool`.

    Start hooks fill it, by attributes that they set or by a mapping that they
    return. Each process has its own, so nothing in it crosses a fork. Jobs may
    set attributes too; they share them with the jobs that run beside them.
    `"pool" in state` tells whether a name is set, and iterating gives the names.
    """

    def __getattr__(self, name: str) -> Any:
        """Refuse a name that is not set, with the names that are."""
        known = ", ".join(sorted(vars(self))) or "nothing"
        message = f"the worker's state has no {name!r}; the start hooks have set: {known}"
        raise AttributeError(message, name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        # Said for type checkers, which otherwise know no attribute to set.
        object.__setattr__(self, name, value)

    def __contains__(self, name: object) -> bool:
        return name in vars(self)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(vars(self)))

    def __repr__(self) -> str:
        # Names only: a value may hold a password.
        return f"<WorkerState {', '.join(sorted(vars(self))) or 'empty'}>"
