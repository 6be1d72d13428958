"""
The URL of a PostgreSQL store: a URL of libpq that may also have `schema`, `timeout`, `pool_size` and `pooler`.

With it come two settings: `listen_url`, a way around a pooler to hear hints, and `joined_hints`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from typing import TypeVar
from urllib.parse import quote, urlencode

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from deeper_tasks.backends.postgres.address import Address, Pooler
from deeper_tasks.backends.postgres.backend import PostgresBackend
from deeper_tasks.backends.urls import StoreSettings, options_of, refuse_unknown_options
from deeper_tasks.config import redacted, split_url
from deeper_tasks.errors import ConfigError

SCHEMES = ("postgresql", "postgres")

_OPTIONS = ("schema", "timeout", "pool_size", "pooler")
_LAST_PORT = 65_535
_NO_PORT = re.compile(r":(?!\d*(?:,|\Z))(?![^\[]*\])")
"""A colon outside of brackets that no port follows."""
_ALIASES = frozenset({"ssl"})
"""Names that libpq takes in a URL and turns into other options."""

T = TypeVar("T")


def make_backend(url: str, settings: StoreSettings) -> PostgresBackend:
    """
    Return the store that a URL names; no connection is opened yet.

    Raises:
        ConfigError: libpq cannot read the URL, or an option or a setting cannot be used.
    """
    _check_parts(url, "the store's URL")
    parts, options = split_url(url), options_of(url)
    own = {name: options.pop(name) for name in _OPTIONS if name in options}
    refuse_unknown_options(
        url,
        {name: value for name, value in options.items() if name not in _libpq_options()},
        known="schema (a name), timeout (seconds), pool_size (connections), pooler (none, transaction) and those of "
        "libpq",
    )
    # `geturl` would leave out the slashes of a URL without a host, and libpq reads no + as a blank.
    conninfo = f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(options, quote_via=quote)}".rstrip("?")
    _check_by_libpq(conninfo, "the store's URL")
    listen_conninfo = settings.listen_url and _checked_listen_url(settings.listen_url)
    read = partial(_read, own)
    try:
        address = Address(
            conninfo=conninfo,
            schema=own.get("schema", "deeper"),
            timeout=read("timeout", lambda text: timedelta(seconds=float(text)), "10", "seconds, such as 2.5"),
            pool_size=read("pool_size", int, "10", "a whole number of connections, such as 10"),
            pooler=read("pooler", Pooler, "none", "none or transaction"),
            listen_conninfo=listen_conninfo,
            joined_hints=settings.joined_hints,
        )
    except ConfigError as error:
        raise ConfigError(f"{redacted(url)!r} cannot be used: {error}") from error
    return PostgresBackend(address)


def _read(own: dict[str, str], name: str, convert: Callable[[str], T], default: str, wanted: str) -> T:
    text = own.get(name, default)
    try:
        return convert(text)
    except (ValueError, OverflowError):
        raise ConfigError(f"option {name!r} cannot be {text!r}: give {wanted}") from None


@cache
def _libpq_options() -> frozenset[str]:
    return frozenset(each.keyword.decode() for each in pq.Conninfo.get_defaults()) | _ALIASES


def _checked_listen_url(url: str) -> str:
    if split_url(url).scheme not in SCHEMES:
        raise ConfigError(f"setting 'listen_url' cannot be {redacted(url)!r}: it must be a postgresql:// URL, too")
    _check_parts(url, "setting 'listen_url'")
    options = options_of(url)
    if own := options.keys() & set(_OPTIONS):
        raise ConfigError(f"setting 'listen_url' has the option {min(own)!r}, which belongs into the store's own URL")
    _check_by_libpq(url, "setting 'listen_url'")
    return url


def _check_parts(url: str, subject: str) -> None:
    """Refuse a URL of which libpq would take a part of the password for something else, and then name it."""
    parts = split_url(url)
    fault = None
    if "#" in url:
        fault = "a '#' ends a URL, and what follows is lost; write %23 for one in a name or in the password"
    elif parts.netloc.count("@") > 1 or "@" in parts.path or ("@" in parts.query and _has_password_cut(parts.netloc)):
        fault = (
            "its user, password and host cannot be separated; write %40 for an @, %2F for a / and %3F for a ? in them"
        )
    if fault is not None:
        raise ConfigError(f"{subject} cannot be {redacted(url)!r}: {fault}")


def _has_password_cut(netloc: str) -> bool:
    """Return whether a user and the beginning of a password may stand where the host belongs."""
    return "@" not in netloc and _NO_PORT.search(netloc) is not None


def _check_by_libpq(url: str, subject: str) -> None:
    try:
        ports = str(conninfo_to_dict(url).get("port") or "")
    except (psycopg.Error, UnicodeError):
        # Its message may quote the password.
        raise ConfigError(
            f"{subject} cannot be {redacted(url)!r}: PostgreSQL's libpq cannot read it; check the names of "
            f"its options, and percent-encode special characters in its user and password"
        ) from None
    for port in filter(None, ports.split(",")):
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= _LAST_PORT):
            # The port is not quoted: it may be the beginning of a password that has an unencoded slash.
            raise ConfigError(f"{subject} cannot be {redacted(url)!r}: its port is not a number from 1 to {_LAST_PORT}")
