"""Imports: whether a name is asked for by `from … import`, which hides the words of an AttributeError."""

from __future__ import annotations

import dis
import sys


def is_from_import() -> bool:
    """Return, in a module's `__getattr__`, whether it is called for the name of a `from … import name`."""
    frame = sys._getframe(2)  # noqa: SLF001 - `inspect` takes long to import
    code = frame.f_code.co_code
    return 0 <= frame.f_lasti < len(code) and code[frame.f_lasti] == dis.opmap["IMPORT_FROM"]
