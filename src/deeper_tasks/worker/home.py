"""The home of a manager: the place from which another process imports it, to run its jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType

from msgspec import Struct

_PROGRAMS = frozenset({"__main__", "__mp_main__"})
"""Modules whose import would run the program once more."""


class NoHomeError(Exception):
    """No other process can import the manager; the message says why."""


class Home(Struct, frozen=True, kw_only=True):
    """
    A manager's place, `module:attribute`, and the store that it works on now.

    The URL may hold a password: a home is sent to child processes and written nowhere.
    """

    place: str
    url: str
    listen_url: str | None = None


def find_place(manager: object, *, first: Iterable[str] = ()) -> str | None:
    """
    Return `module:attribute` of a manager that is an attribute of an imported module; None if it is not.

    The modules named in `first` are searched before all others. The program that runs here does not count.
    """
    names = dict.fromkeys((*first, *sorted(sys.modules)))
    for name in names:
        module = sys.modules.get(name)
        if name in _PROGRAMS or module is None:
            continue
        attribute = _attribute_of(module, manager)
        if attribute is not None:
            return f"{name}:{attribute}"
    return None


def _attribute_of(module: ModuleType, value: object) -> str | None:
    # An entry of sys.modules need not be a module, and may import modules when an attribute is read.
    held = getattr(module, "__dict__", None)
    if not isinstance(held, dict):
        return None
    return next((name for name, each in [*held.items()] if each is value and isinstance(name, str)), None)


def no_home() -> Home:
    """Raise NoHomeError, for a worker that was made without a manager."""
    message = "it is not known where its manager can be imported"
    raise NoHomeError(message)
