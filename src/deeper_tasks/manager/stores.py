"""The stores by their URLs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.config import redacted
from deeper_tasks.errors import ConfigError


def make_backend(url: str) -> Backend:
    """
    Return the store that a URL names; nothing is opened yet.

    Raises:
        ConfigError: the scheme is unknown, or a part of the URL cannot be used.
    """
    parts = urlsplit(url)
    maker = _MAKERS.get(parts.scheme)
    if maker is None:
        known = ", ".join(f"{scheme}://" for scheme in _MAKERS)
        raise ConfigError(f"the store's URL {redacted(url)!r} has an unknown scheme; use one of {known}")
    return maker(parts, dict(parse_qsl(parts.query, keep_blank_values=True)))


def _sqlite(parts: SplitResult, options: dict[str, str]) -> Backend:
    from deeper_tasks.backends.sqlite import SQLiteBackend
    from deeper_tasks.backends.sqlite.database import Synchronous

    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path or path == ":memory:":
        raise ConfigError(
            f"{parts.geturl()!r} names no file: write sqlite:///tasks.db, sqlite:////var/lib/app/tasks.db, or memory://"
        )
    synchronous = options.pop("synchronous", "full").lower()
    timeout = options.pop("timeout", "10")
    _refuse(parts, options, "synchronous (full, normal) and timeout (seconds)")
    if synchronous not in set(Synchronous):
        raise ConfigError(f"synchronous={synchronous!r} in {parts.geturl()!r}: use full or normal")
    try:
        seconds = float(timeout)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"timeout={timeout!r} in {parts.geturl()!r}: give seconds, more than 0")
    return SQLiteBackend(Path(path), synchronous=Synchronous(synchronous), timeout=seconds)


def _memory(parts: SplitResult, options: dict[str, str]) -> Backend:
    from deeper_tasks.backends.memory import MemoryBackend

    _refuse(parts, options, "none")
    return MemoryBackend()


def _noop(parts: SplitResult, options: dict[str, str]) -> Backend:
    from deeper_tasks.backends.noop import NoopBackend

    _refuse(parts, options, "none")
    return NoopBackend()


def _refuse(parts: SplitResult, options: dict[str, str], known: str) -> None:
    if options:
        raise ConfigError(f"{parts.geturl()!r} has the unknown option {next(iter(options))!r}; there are: {known}")


_MAKERS: dict[str, Callable[[SplitResult, dict[str, str]], Backend]] = {
    "sqlite": _sqlite,
    "memory": _memory,
    "noop": _noop,
}
