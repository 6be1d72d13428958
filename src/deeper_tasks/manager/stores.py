"""The registry of stores: which module makes the store of a URL, and how a store is shown."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from deeper_tasks.backends.protocol import Backend, Capabilities, Located
from deeper_tasks.backends.urls import StoreSettings, file_path, refuse_listen_url
from deeper_tasks.config import redacted, split_url
from deeper_tasks.errors import ConfigError
from deeper_tasks.tasks.naming import import_folders

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "deeper_tasks.backends"
"""
The group of entry points by which a package brings a store.

The name is the URL's scheme. The value is a callable that takes the whole URL and returns a `Backend`, which opens
nothing yet; it raises `ConfigError` for a URL that it cannot use. The schemes of `URL_MODULES` cannot be taken over.
"""

URL_MODULES = {
    "sqlite": "deeper_tasks.backends.sqlite.url",
    "postgresql": "deeper_tasks.backends.postgres.url",
    "postgres": "deeper_tasks.backends.postgres.url",
    "memory": "deeper_tasks.backends.memory.url",
    "noop": "deeper_tasks.backends.noop.url",
}
"""
The stores of this package, by scheme. A module is imported when a URL asks for it, and then its `make_backend` is
called with the URL and the `StoreSettings`.
"""
_DRIVERS = {"deeper_tasks.backends.postgres.url": ("psycopg 3", "postgres")}
"""The package that a store needs beside this one, and the extra that brings it."""


def make_backend(url: str, *, listen_url: str | None = None, joined_hints: bool = True) -> Backend:
    """
    Return the store that a URL names; nothing is opened yet. The settings are for PostgreSQL.

    Raises:
        ConfigError: the scheme is unknown, a part of the URL cannot be used, the package that brings the store cannot
            be loaded, or the store has no use for a `listen_url`.
    """
    settings = StoreSettings(listen_url=listen_url, joined_hints=joined_hints)
    scheme = split_url(url).scheme
    if scheme in URL_MODULES:
        return _maker(URL_MODULES[scheme], url)(url, settings)
    # Rarely needed, and a tenth of the time that an import of this library takes.
    from importlib.metadata import entry_points

    brought = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS) if entry.name not in URL_MODULES}
    if scheme in brought:
        refuse_listen_url(url, settings)
        return _from_package(brought[scheme], url)
    known = ", ".join(f"{scheme}://" for scheme in (*URL_MODULES, *sorted(brought)))
    raise ConfigError(f"the store's URL {redacted(url)!r} has an unknown scheme; use one of {known}")


def shown_store(url: str, backend: Backend) -> str:
    """Return how the store of a URL is shown: the URL without secrets, and the path of its file, if it has one."""
    return _with_file(redacted(url), backend)


def shown_backend(backend: Backend) -> str:
    """Return how a store without a URL is shown: its class, and the path of its file, if it has one."""
    return _with_file(type(backend).__name__, backend)


def _with_file(name: str, backend: Backend) -> str:
    return f"{name} ({backend.location})" if isinstance(backend, Located) else name


def begins_elsewhere(url: str, location: str) -> bool:
    """Return whether a URL's path begins at a working folder from which the program imports nothing."""
    path, place = file_path(url), Path(location)
    depth = len(path.parts)
    if path.is_absolute() or place.parts[-depth:] != path.parts:
        return False
    return place.parents[depth - 1].resolve() not in import_folders()


def _maker(module: str, url: str) -> Callable[[str, StoreSettings], Backend]:
    try:
        maker: Callable[[str, StoreSettings], Backend] = import_module(module).make_backend
    except ImportError as error:
        if module not in _DRIVERS:
            raise
        driver, extra = _DRIVERS[module]
        raise ConfigError(
            f"{redacted(url)!r} needs {driver}: install deeper_tasks with its extra {extra!r} ({error})"
        ) from error
    return maker


def _from_package(entry: EntryPoint, url: str) -> Backend:
    package = entry.dist.name if entry.dist is not None else entry.value
    try:
        maker = entry.load()
    except Exception as error:
        raise ConfigError(f"the store {entry.name}:// of the package {package!r} cannot be loaded: {error}") from error
    backend: Backend = maker(url)
    if not isinstance(getattr(backend, "capabilities", None), Capabilities):
        raise ConfigError(
            f"the entry point {entry.name!r} of the package {package!r} returned {type(backend).__name__!r}, "
            f"which is not a Backend; it must be a callable that takes the URL and returns one"
        )
    return backend
