"""The worker state: objects such as pools and clients, which start hooks make for the jobs of a process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class WorkerState:
    """
    A namespace that all jobs of a process share: `current_job().state.pool`.

    Start hooks fill it: they set attributes, or return a mapping. Each process has its own namespace, so no object in
    it crosses a fork. Jobs may set attributes too, and share them with the jobs that run beside them. `"pool" in state`
    says whether a name is set; iteration yields the names.
    """

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError for a name that is not set; the message lists the names that are set."""
        known = ", ".join(sorted(vars(self))) or "nothing"
        message = f"the worker's state has no {name!r}; the start hooks have set: {known}"
        raise AttributeError(message, name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        # Defined for type checkers, which otherwise accept no assignment to an attribute.
        object.__setattr__(self, name, value)

    def __contains__(self, name: object) -> bool:
        return name in vars(self)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(vars(self)))

    def __repr__(self) -> str:
        # Names only: a value may hold a password.
        return f"<WorkerState {', '.join(sorted(vars(self))) or 'empty'}>"
