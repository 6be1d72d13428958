"""The base context: every attempt's context is a copy of it, so that variables of one job do not reach another."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial


class BaseContext:
    """The context of the code that makes this object, kept as a model for later attempts."""

    def __init__(self) -> None:
        self.context = copy_context()
        self.fresh: Callable[[], Context] = self.context.copy
        """Return a new context for an attempt."""
        self.freeze()

    def freeze(self) -> None:
        """Note the variables that the start hooks have set in `context`."""
        # A copied context shares its values, and a decimal context is changed in place: getcontext().prec = 50.
        held = [value for value in self.context.values() if isinstance(value, decimal.Context)]
        if held:
            self.fresh = partial(_with_own_decimal, self.context, held[0].copy())


def _with_own_decimal(model: Context, own: decimal.Context) -> Context:
    context = model.copy()
    context.run(decimal.setcontext, own.copy())
    return context
