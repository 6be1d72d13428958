"""Imports: detects a `from … import name`, which would hide the message of an AttributeError."""

from __future__ import annotations

import dis
import sys


def is_from_import() -> bool:
    """Whether the calling `__getattr__` of a module was called for a `from … import name`."""
    frame = sys._getframe(2)  # noqa: SLF001 - `inspect` takes long to import
    code = frame.f_code.co_code
    return 0 <= frame.f_lasti < len(code) and code[frame.f_lasti] == dis.opmap["IMPORT_FROM"]
