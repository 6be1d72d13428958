"""The stores by their URLs: our own, and those that other packages bring by an entry point."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode

from deeper_tasks.backends.protocol import Backend, Capabilities, Located
from deeper_tasks.config import redacted, right_file_urls, split_url
from deeper_tasks.errors import ConfigError
from deeper_tasks.tasks.naming import import_folders

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "deeper_tasks.backends"
"""
The group of entry points by which a package brings a store of its own.

The name is the URL's scheme; the value a callable that is given the whole URL
and returns a `Backend`, which opens nothing yet. It raises `ConfigError` for a
URL that it cannot use. A scheme of our own cannot be taken over.
"""


def make_backend(url: str, *, listen_url: str | None = None, joined_hints: bool = True) -> Backend:
    """
    Return the store that a URL names; nothing is opened yet. `joined_hints` is for PostgreSQL; others ignore it.

    Raises:
        ConfigError: the scheme is unknown, a part of the URL cannot be used, or
            the package that brings the store cannot be loaded; or the store has
            no use for a `listen_url`.
    """
    parts = split_url(url)
    if listen_url is not None and parts.scheme not in _TAKE_LISTEN_URL:
        raise ConfigError(
            f"setting 'listen_url' is for postgresql:// stores alone, and the store is {redacted(url)!r}: leave it out"
        )
    maker = _MAKERS.get(parts.scheme)
    if maker is not None:
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.scheme in _POSTGRES:
            return _postgres(url, parts, options, listen_url=listen_url, joined_hints=joined_hints)
        return maker(url, parts, options)
    # Rarely needed, and a tenth of the time that an import of this library takes.
    from importlib.metadata import entry_points

    brought = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS) if entry.name not in _MAKERS}
    if parts.scheme in brought:
        return _from_package(brought[parts.scheme], url)
    known = ", ".join(f"{scheme}://" for scheme in (*_MAKERS, *sorted(brought)))
    raise ConfigError(f"the store's URL {redacted(url)!r} has an unknown scheme; use one of {known}")


def shown_store(url: str, backend: Backend) -> str:
    """Return a store as it may be shown: its URL without secrets, and the absolute path of its file, if it has one."""
    return f"{redacted(url)} ({backend.location})" if isinstance(backend, Located) else redacted(url)


def begins_elsewhere(url: str, location: str) -> bool:
    """Whether the path in a URL begins at a folder, once the working folder, from which the program imports nothing."""
    parts = split_url(url)
    path = Path(unquote(parts.path).removeprefix("/"))
    if parts.scheme != "sqlite" or path.is_absolute():
        return False
    folder = Path(location).parents[len(path.parts) - 1].resolve()
    return folder not in import_folders()


def _from_package(entry: EntryPoint, url: str) -> Backend:
    package = entry.dist.name if entry.dist is not None else entry.value
    try:
        maker = entry.load()
    except Exception as error:
        raise ConfigError(f"the store {entry.name}:// of the package {package!r} cannot be loaded: {error}") from error
    backend: Backend = maker(url)
    if not isinstance(getattr(backend, "capabilities", None), Capabilities):
        raise ConfigError(
            f"the entry point {entry.name!r} of the package {package!r} gave {type(backend).__name__!r}, which is no "
            f"Backend; it must be a callable that takes the URL and returns one"
        )
    return backend


def _sqlite(url: str, parts: SplitResult, options: dict[str, str]) -> Backend:
    from deeper_tasks.backends.sqlite import SQLiteBackend
    from deeper_tasks.backends.sqlite.database import Synchronous

    path = unquote(parts.path).removeprefix("/")
    shown = redacted(url)
    if not _names_file(url) or parts.fragment or not path or path == ":memory:" or "\0" in path:
        raise ConfigError(f"{shown!r} names no file: {right_file_urls(shown)}")
    synchronous = options.pop("synchronous", "full").lower()
    timeout = options.pop("timeout", "10")
    foreign_keys = options.pop("foreign_keys", "off").lower()
    _refuse(url, options, "synchronous (full, normal), timeout (seconds) and foreign_keys (on, off)")
    if synchronous not in set(Synchronous):
        raise ConfigError(f"synchronous={synchronous!r} in {shown!r}: use full or normal")
    try:
        seconds = float(timeout)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise ConfigError(
            f"timeout={timeout!r} in {shown!r}: give seconds, more than 0 and at most {_LONGEST_TIMEOUT:,}"
        )
    if foreign_keys not in {"on", "off"}:
        raise ConfigError(f"foreign_keys={foreign_keys!r} in {shown!r}: use on or off")
    return SQLiteBackend(
        Path(path), synchronous=Synchronous(synchronous), timeout=seconds, has_foreign_keys=foreign_keys == "on"
    )


def _names_file(url: str) -> bool:
    """Whether three slashes follow the scheme: with fewer, a part of the path would be taken for something else."""
    return url.partition(":")[2].startswith("///")


def _postgres(
    url: str,
    parts: SplitResult,
    options: dict[str, str],
    *,
    listen_url: str | None = None,
    joined_hints: bool = True,
) -> Backend:
    try:
        from deeper_tasks.backends.postgres import Address, Pooler, PostgresBackend
    except ImportError as error:
        raise ConfigError(
            f"{redacted(url)!r} needs psycopg 3: install deeper_tasks with its extra 'postgres' ({error})"
        ) from error

    own = {name: options.pop(name) for name in _POSTGRES_OPTIONS if name in options}
    # Not geturl, which leaves out the slashes where no host is named; and a + is no blank for libpq.
    conninfo = f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(options, quote_via=quote)}".rstrip("?")
    _check_by_libpq(conninfo, "the store's URL")
    try:
        address = Address(
            conninfo=conninfo,
            schema=own.get("schema", "deeper"),
            timeout=timedelta(seconds=float(own.get("timeout", "10"))),
            pool_size=int(own.get("pool_size", "10")),
            pooler=Pooler(own.get("pooler", "none")),
            listen_conninfo=listen_url and _checked_listen_url(listen_url),
            joined_hints=joined_hints,
        )
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{redacted(url)!r} has an option that cannot be used: {error}; there are schema (a name), "
            f"timeout (seconds), pool_size (connections), pooler (none, transaction) and those of libpq"
        ) from error
    return PostgresBackend(address)


def _checked_listen_url(url: str) -> str:
    parts = split_url(url)
    if parts.scheme not in _POSTGRES:
        raise ConfigError(f"setting 'listen_url' cannot be {redacted(url)!r}: it must be a postgresql:// URL, too")
    if own := {name for name, _ in parse_qsl(parts.query)} & set(_POSTGRES_OPTIONS):
        raise ConfigError(f"setting 'listen_url' has the option {min(own)!r}, which belongs into the store's own URL")
    _check_by_libpq(url, "setting 'listen_url'")
    return url


def _check_by_libpq(url: str, what: str) -> None:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        ports = str(conninfo_to_dict(url).get("port") or "")
    except (psycopg.Error, UnicodeError):
        # Its words may quote the password.
        raise ConfigError(
            f"{what} cannot be {redacted(url)!r}: PostgreSQL's libpq cannot read it; check the names of "
            f"its options, and percent-encode what is special in its user and password"
        ) from None
    for port in filter(None, ports.split(",")):
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= _LAST_PORT):
            # Not which: it may be the begin of a password that has an unencoded slash.
            raise ConfigError(f"{what} cannot be {redacted(url)!r}: its port is no number from 1 to {_LAST_PORT}")


def _memory(url: str, _parts: SplitResult, options: dict[str, str]) -> Backend:
    from deeper_tasks.backends.memory import MemoryBackend

    _refuse(url, options, "none")
    return MemoryBackend()


def _noop(url: str, _parts: SplitResult, options: dict[str, str]) -> Backend:
    from deeper_tasks.backends.noop import NoopBackend

    _refuse(url, options, "none")
    return NoopBackend()


def _refuse(url: str, options: dict[str, str], known: str) -> None:
    if options:
        raise ConfigError(f"{redacted(url)!r} has the unknown option {next(iter(options))!r}; there are: {known}")


_LONGEST_TIMEOUT = 1_000_000
"""Seconds: SQLite counts milliseconds in 31 bits."""
_LAST_PORT = 65_535

_POSTGRES = ("postgresql", "postgres")
_POSTGRES_OPTIONS = ("schema", "timeout", "pool_size", "pooler")
_TAKE_LISTEN_URL = (*_POSTGRES, "noop")
"""With noop:// an environment switches tasks off by one setting, and leaves the others as they are."""

_MAKERS: dict[str, Callable[[str, SplitResult, dict[str, str]], Backend]] = {
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
    "memory": _memory,
    "noop": _noop,
}
