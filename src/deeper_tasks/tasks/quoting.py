"""Quoting: how a value that was refused appears in a message, never at full length."""

from __future__ import annotations

import reprlib

from deeper_tasks.domain.text import class_name

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 120


def quoted(value: object) -> str:
    """Return the `repr` of a value, shortened; of one whose `repr` fails, its type."""
    try:
        return _REPR.repr(value)
    except BaseException:  # noqa: BLE001 - an exit, for example, which reprlib lets through
        return f"<{class_name(value)}>"
