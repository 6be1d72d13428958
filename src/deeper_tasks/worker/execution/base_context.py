"""The base context: what every attempt's context starts from, so that nothing a job sets reaches another."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial


class BaseContext:
    """The context of this moment's code, kept as a model for the attempts to come."""

    def __init__(self) -> None:
        self.context = copy_context()
        self.fresh: Callable[[], Context] = self.context.copy
        """Return a context of its own for an attempt."""
        self.freeze()

    def freeze(self) -> None:
        """Take note of what was set in `context` since it was made, by the start hooks."""
        # A copied context shares its values, and this one is changed in place: getcontext().prec = 50.
        held = [value for value in self.context.values() if isinstance(value, decimal.Context)]
        if held:
            self.fresh = partial(_with_own_decimal, self.context, held[0].copy())


def _with_own_decimal(model: Context, own: decimal.Context) -> Context:
    context = model.copy()
    context.run(decimal.setcontext, own.copy())
    return context
