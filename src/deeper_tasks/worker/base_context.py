"""The base context: what every attempt's context starts from, so that nothing a job sets reaches another."""

from __future__ import annotations

import decimal
from contextvars import Context, copy_context


class BaseContext:
    """The context of this moment's code, kept as a model for the attempts to come."""

    def __init__(self) -> None:
        self.context = copy_context()
        self._decimal: decimal.Context | None = None
        self.freeze()

    def freeze(self) -> None:
        """Take note of what was set in `context` since it was made, by the start hooks."""
        # A copied context shares its values, and this one is changed in place: getcontext().prec = 50.
        held = [value for value in self.context.values() if isinstance(value, decimal.Context)]
        self._decimal = held[0].copy() if held else None

    def fresh(self) -> Context:
        """Return a context of its own for an attempt."""
        context = self.context.copy()
        if self._decimal is not None:
            context.run(decimal.setcontext, self._decimal.copy())
        return context
