"""A store in one JSON file: `jsonfile:///jobs.json`, or `jsonfile:////var/lib/app/jobs.json`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.errors import ConfigError
from deeper_tasks_jsonfile.backend import JsonFileBackend

__all__ = ["JsonFileBackend", "make_backend"]


def make_backend(url: str) -> Backend:
    """
    Return the store that a URL names; nothing is opened yet. The entry point of this package.

    Raises:
        ConfigError: the URL names no file, or has options; there are none.
    """
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        raise ConfigError(f"{url!r} names no file: write jsonfile:///jobs.json or jsonfile:////var/lib/app/jobs.json")
    if parts.query or parts.fragment:
        raise ConfigError(f"{url!r} has options, and this store takes none")
    return JsonFileBackend(Path(path))
