"""Coroutine functions: recognised also behind decorators and partial applications."""

from __future__ import annotations

import functools
import inspect

_MOST_WRAPPERS = 100


def leads_to_coroutine(function: object) -> bool:
    """
    Whether a call of this function probably returns an awaitable, which must be awaited to run the code.

    That holds for an `async def`, for an object whose `__call__` is an `async def`, and for a wrapper of either by
    `functools.wraps` or `functools.partial`. Without a call it is not certain: a wrapper may await the result itself,
    for example by `asyncio.run`.
    """
    for _ in range(_MOST_WRAPPERS):
        call = getattr(type(function), "__call__", None)  # noqa: B004 - the attribute itself is needed
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
            return True
        inner = function.func if isinstance(function, functools.partial) else getattr(function, "__wrapped__", None)
        if inner is None:
            return False
        function = inner
    return False
