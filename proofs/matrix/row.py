"""A row of the matrix: one version, the tests that concern it, and what they run with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".matrix"
"""Where environments and servers are kept from one run to the next; it can be removed at any time."""


class MissingError(Exception):
    """This machine has not got the version; the message says how to get it."""


class Setting(Struct, frozen=True, kw_only=True):
    """The interpreter that runs the tests, and what is added to their environment."""

    python: Path
    environment: Mapping[str, str] = {}


class Row(Struct, frozen=True, kw_only=True):
    """`prepare` installs the version, or raises `MissingError`; `tests` are those that the version concerns."""

    name: str
    tests: tuple[str, ...]
    prepare: Callable[[], Setting]
