"""Unfinished code: return values whose code has not run, such as a coroutine or a generator."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncGenerator, Awaitable, Collection, Coroutine, Generator
from contextlib import suppress
from itertools import starmap

from deeper_tasks.tasks.quoting import quoted

_AWAITED = (Awaitable, concurrent.futures.Future)
_UNFINISHED = (*_AWAITED, Generator, AsyncGenerator, map, filter, starmap)


def is_unfinished(value: object) -> bool:
    """Whether the value is code that has not run. The type is asked, because the value itself may raise."""
    return issubclass(type(value), _UNFINISHED)


def unfinished_in(value: object) -> list[object]:
    """Return the unfinished values among the items of a collection."""
    items: object = value.values() if isinstance(value, dict) else value
    if not isinstance(items, Collection) or isinstance(items, str | bytes):
        return []
    return [item for item in items if is_unfinished(item)]


def is_awaitable(value: object) -> bool:
    """Whether a coroutine can await the value."""
    return issubclass(type(value), Awaitable)


def give_up(value: object) -> TypeError:
    """Close an unfinished value without a warning, and return the error that names it."""
    kind = type(value)
    words = f"{_article(kind)} ({_name(value)})"
    way_out = "await it, in an async def," if issubclass(kind, _AWAITED) else "use all that it yields, as list(…) does,"
    abandon(value)
    return TypeError(f"the task returned {words}, whose code has not run: {way_out} before the task returns")


def _article(kind: type) -> str:
    name = "async generator" if issubclass(kind, AsyncGenerator) else kind.__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _name(value: object) -> str:
    with suppress(Exception):
        name = getattr(value, "__qualname__", None)
        if isinstance(name, str):
            return name
    return quoted(value)


def abandon(value: object) -> None:
    """Close an unfinished value, without a warning that it did not run. Never raises."""
    with suppress(BaseException):
        if isinstance(value, Coroutine | Generator):
            value.close()
        elif isinstance(value, asyncio.Future):
            # This may be another thread than the one of its loop.
            value.get_loop().call_soon_threadsafe(value.cancel)
        elif isinstance(value, concurrent.futures.Future):
            value.cancel()
