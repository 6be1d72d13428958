"""A site: where the stores of a run are made, watched and thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from benchmarks.figures import Sample


class Phase(StrEnum):
    """The work that is done with a store while it is watched."""

    INSERT = "insert"
    DRAIN = "drain"


class Site(Protocol):
    """A place for stores. Stores of one name never meet."""

    def store(self, name: str) -> AbstractContextManager[str]:
        """Give the URL of a new, empty store, for the time of the block."""
        ...

    def wear(self, url: str, phase: Phase, *, jobs: int) -> AbstractContextManager[Sample]:
        """
        Give a sample that holds, after the block, what the store had to write for so many jobs in it.

        Whatever is connected to the store within the block is closed in it too.
        """
        ...


class FileSite:
    """A folder of SQLite files, which count nothing. They go with the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._made = 0

    @contextmanager
    def store(self, name: str) -> Iterator[str]:
        """Give the URL of a file that is not there yet."""
        self._made += 1
        yield url_of(self._folder / f"{name}-{self._made}.db")

    @contextmanager
    def wear(self, url: str, phase: Phase, *, jobs: int) -> Iterator[Sample]:  # noqa: ARG002 - the protocol's
        """Give nothing."""
        yield {}


def url_of(path: Path) -> str:
    """Return the URL of a file."""
    return f"sqlite:///{path}"
