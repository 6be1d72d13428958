"""The URL of a SQLite store: `sqlite:///tasks.db?synchronous=full&timeout=10&foreign_keys=off`."""

from __future__ import annotations

from urllib.parse import unquote

from deeper_tasks.backends.sqlite.backend import SQLiteBackend
from deeper_tasks.backends.sqlite.database import Synchronous
from deeper_tasks.backends.urls import StoreSettings, file_path, options_of, refuse_listen_url, refuse_unknown_options
from deeper_tasks.config import redacted, right_file_urls, split_url
from deeper_tasks.errors import ConfigError

_LONGEST_TIMEOUT = 1_000_000
"""Seconds: SQLite counts milliseconds in 31 bits."""
_NO_NAMES = frozenset({"", ".", "..", ":memory:"})
"""Ends of a path that name a folder, or no file at all."""


def make_backend(url: str, settings: StoreSettings) -> SQLiteBackend:
    """
    Return the store that a URL names; its file is not opened yet.

    Raises:
        ConfigError: the URL names no file, or has an option that cannot be used.
    """
    refuse_listen_url(url, settings)
    shown, path = redacted(url), file_path(url)
    if "\0" in str(path):
        raise ConfigError(f"{shown!r} has the character NUL (%00), which no file's name can have: remove it")
    if not _names_file(url):
        raise ConfigError(f"{shown!r} names no file: {right_file_urls(shown)}")
    options = options_of(url)
    synchronous = options.pop("synchronous", "full").lower()
    timeout = options.pop("timeout", "10")
    foreign_keys = options.pop("foreign_keys", "off").lower()
    refuse_unknown_options(
        url, options, known="synchronous (full, normal), timeout (seconds) and foreign_keys (on, off)"
    )
    if synchronous not in set(Synchronous):
        raise ConfigError(f"synchronous={synchronous!r} in {shown!r}: use full or normal")
    if foreign_keys not in {"on", "off"}:
        raise ConfigError(f"foreign_keys={foreign_keys!r} in {shown!r}: use on or off")
    return SQLiteBackend(
        path,
        synchronous=Synchronous(synchronous),
        timeout=_seconds(timeout, shown=shown),
        has_foreign_keys=foreign_keys == "on",
    )


def _names_file(url: str) -> bool:
    parts = split_url(url)
    # With fewer slashes than three a part of the path would be taken for something else.
    has_slashes = url.partition(":")[2].startswith("///")
    return has_slashes and not parts.fragment and unquote(parts.path).rpartition("/")[2] not in _NO_NAMES


def _seconds(timeout: str, *, shown: str) -> float:
    try:
        seconds = float(timeout)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise ConfigError(
            f"timeout={timeout!r} in {shown!r}: give seconds, more than 0 and at most {_LONGEST_TIMEOUT:,}"
        )
    return seconds
