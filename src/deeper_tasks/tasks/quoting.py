"""Quoting: the shortened form in which a message shows a refused value."""

from __future__ import annotations

import reprlib

from deeper_tasks.domain.text import class_name

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 120


def quoted(value: object) -> str:
    """Return the shortened `repr` of a value, or its type if the `repr` raises."""
    try:
        return _REPR.repr(value)
    except BaseException:  # noqa: BLE001 - reprlib lets a SystemExit through, for example
        return f"<{class_name(value)}>"
