"""Coroutine functions: told as such also behind decorators and partial applications."""

from __future__ import annotations

import functools
import inspect

_MOST_WRAPPERS = 100


def leads_to_coroutine(function: object) -> bool:
    """
    Whether calling this runs nothing until what it gives is awaited, as far as can be known without a call.

    That is so of an `async def`, of an object whose `__call__` is one, and of what
    wraps either with `functools.wraps` or `functools.partial`. A wrapper may
    still await it by itself, as by `asyncio.run`.
    """
    for _ in range(_MOST_WRAPPERS):
        call = getattr(type(function), "__call__", None)  # noqa: B004 - to look at it, not to know that it is there
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
            return True
        inner = function.func if isinstance(function, functools.partial) else getattr(function, "__wrapped__", None)
        if inner is None:
            return False
        function = inner
    return False
