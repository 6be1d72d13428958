"""The working folder: checks whether its files can be found, and makes paths absolute."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from deeper_tasks.errors import ConfigError


def may(path: Path, mode: int) -> bool:
    """Whether the effective user of this process has the rights `mode` on a path, such as `os.R_OK`."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def is_file(path: Path) -> bool:
    """Whether a path is a file that this process can find; False if a folder on the way cannot be entered."""
    with suppress(OSError):
        return path.is_file()
    return False


def absolute(path: Path) -> Path:
    """
    Return the absolute form of a path, which stays valid when the working folder changes.

    Raises:
        ConfigError: the path is relative, and the working folder was removed.
    """
    try:
        return path.absolute()
    except OSError as error:
        message = (
            f"the path {str(path)!r} is relative to the working folder, which cannot be found ({error.strerror}); "
            "change to a folder that exists, or give an absolute path, such as sqlite:////srv/shop/tasks.db for a store"
        )
        raise ConfigError(message) from error


def why_unsearchable() -> str | None:
    """Return the reason why no file of the working folder can be found; None if files can be found."""
    try:
        folder = Path.cwd()
    except OSError as error:
        return f"the working folder cannot be found ({error.strerror}), and no file in it"
    if may(Path(), os.X_OK):
        return None
    return f"user {os.geteuid()} may not enter the working folder {str(folder)!r}, and finds no file in it"
