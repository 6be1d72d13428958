"""The working folder: whether files can be looked for in it, and paths that begin there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from deeper_tasks.errors import ConfigError


def may(path: Path, mode: int) -> bool:
    """Whether the user that this process acts for has the rights of `mode`, as `os.access` takes it."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def is_file(path: Path) -> bool:
    """Whether there is such a file; one that cannot be looked for is as one that is not there."""
    with suppress(OSError):
        return path.is_file()
    return False


def absolute(path: Path) -> Path:
    """
    Return a path that holds wherever the program goes.

    Raises:
        ConfigError: it begins at the working folder, and that was removed.
    """
    try:
        return path.absolute()
    except OSError as error:
        message = (
            f"the path {str(path)!r} begins at the working folder, which cannot be found ({error.strerror}); "
            "change to a folder that exists, or give an absolute path, such as sqlite:////srv/shop/tasks.db for a store"
        )
        raise ConfigError(message) from error


def why_unsearchable() -> str | None:
    """Return why no file can be looked for in the working folder; None: nothing is in the way."""
    try:
        folder = Path.cwd()
    except OSError as error:
        return f"the working folder cannot be found ({error.strerror}), and no file in it"
    if may(Path(), os.X_OK):
        return None
    return f"user {os.geteuid()} may not enter the working folder {str(folder)!r}, and finds no file in it"
