"""Quoting: how a value that was refused appears in a message, never at full length."""

from __future__ import annotations

import reprlib

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 120


def quoted(value: object) -> str:
    """Return the `repr` of a value, shortened; of one whose `repr` fails, its type."""
    return _REPR.repr(value)
