"""Nesting: the depth that a JSON document may have, and the check of it."""

from __future__ import annotations

import re

from deeper_tasks.domain.job import Json

MAX_NESTING = 100
"""
The largest depth of lists and dicts in an argument, in meta or in a result, the outermost included.

Every JSON reader has a limit: Python's is a thousand minus the frames on its stack, that of others often 256 or 128.
"""

MAX_READABLE_NESTING = 200
"""The largest depth that is read from a store, a few levels around a value included. Deeper documents are damaged."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS = b"[]{}"
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_ALL_SQUARE = bytes.maketrans(b"{}", b"[]")


def too_deep(most: int = MAX_NESTING) -> str:
    """Return the words for a value that is nested too deeply."""
    return f"nested deeper than {most} levels"


def nests_too_deep(document: Json | bytes, *, most: int = MAX_NESTING) -> bool:
    """Return whether a JSON document has more levels than `most`. It need not be valid JSON."""
    # Nearly every document is too short, or has too few brackets, and needs no closer look.
    if len(document) <= most:
        return False
    text = document.encode("utf-8", "replace") if isinstance(document, str) else document
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    return _is_deep(text, most) and _is_deep(_STRING.sub(b"", text), most)


def _is_deep(text: bytes, most: int) -> bool:
    """Remove the innermost brackets, one level at a time. Brackets inside strings may make the answer wrongly True."""
    brackets = text.translate(_ALL_SQUARE, _NO_BRACKETS)
    too_many = b"[" * (most + 1)
    for _ in range(most):
        if not brackets:
            return False
        if too_many in brackets:
            return True
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)
