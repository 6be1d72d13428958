"""Nesting: how deep a JSON document may be, and whether one is deeper."""

from __future__ import annotations

import re

from deeper_tasks.domain.job import Json

MAX_NESTING = 100
"""
Lists and dicts that may stand inside one another in an argument, meta or a result, the outermost included.

Readers give up at some depth: Python's own at a thousand less the frames they
are called from, others often at 256 or 128.
"""

MAX_READABLE_NESTING = 200
"""The depth that is read back of a store, a few levels around a value included. Deeper documents count as damaged."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS = b"[]{}"
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_ALL_SQUARE = bytes.maketrans(b"{}", b"[]")


def too_deep(most: int = MAX_NESTING) -> str:
    """Return in words that something is too deep."""
    return f"nested deeper than {most} levels"


def nests_too_deep(document: Json | bytes, *, most: int = MAX_NESTING) -> bool:
    """Return whether a JSON document has more levels than `most`. It need not be valid JSON."""
    # The usual cases first: too short for it, and too few brackets, counted at the speed of memory.
    if len(document) <= most:
        return False
    text = document.encode("utf-8", "replace") if isinstance(document, str) else document
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    return _is_deep(text, most) and _is_deep(_STRING.sub(b"", text), most)


def _is_deep(text: bytes, most: int) -> bool:
    """Peel off the innermost brackets, a level at a time. Brackets in strings may keep it from coming to an end."""
    brackets = text.translate(_ALL_SQUARE, _NO_BRACKETS)
    too_many = b"[" * (most + 1)
    for _ in range(most):
        if not brackets:
            return False
        if too_many in brackets:
            return True
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)
