"""Located: the optional role of a store that lies in a file of this machine."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Located(Protocol):
    """A store in a file."""

    @property
    def location(self) -> str:
        """The absolute path of the file, also where the URL names it from the working folder."""
