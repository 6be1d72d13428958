"""
The URL of a PostgreSQL store: a URL of libpq that may also have `schema`, `timeout`, `pool_size` and `pooler`.

With it come two settings: `listen_url`, a way around a pooler to hear hints, and `joined_hints`.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from deeper_tasks.backends.postgres.address import Address, Pooler
from deeper_tasks.backends.postgres.backend import PostgresBackend
from deeper_tasks.backends.urls import StoreSettings, options_of
from deeper_tasks.config import redacted, split_url
from deeper_tasks.errors import ConfigError

SCHEMES = ("postgresql", "postgres")

_OPTIONS = ("schema", "timeout", "pool_size", "pooler")
_LAST_PORT = 65_535


def make_backend(url: str, settings: StoreSettings) -> PostgresBackend:
    """
    Return the store that a URL names; no connection is opened yet.

    Raises:
        ConfigError: libpq cannot read the URL, or an option or a setting cannot be used.
    """
    parts, options = split_url(url), options_of(url)
    own = {name: options.pop(name) for name in _OPTIONS if name in options}
    # `geturl` leaves out the slashes if there is no host. libpq does not read a + as a blank, so blanks become %20.
    conninfo = f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(options, quote_via=quote)}".rstrip("?")
    _check_by_libpq(conninfo, "the store's URL")
    try:
        address = Address(
            conninfo=conninfo,
            schema=own.get("schema", "deeper"),
            timeout=timedelta(seconds=float(own.get("timeout", "10"))),
            pool_size=int(own.get("pool_size", "10")),
            pooler=Pooler(own.get("pooler", "none")),
            listen_conninfo=settings.listen_url and _checked_listen_url(settings.listen_url),
            joined_hints=settings.joined_hints,
        )
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{redacted(url)!r} has an option that cannot be used: {error}; there are schema (a name), "
            f"timeout (seconds), pool_size (connections), pooler (none, transaction) and those of libpq"
        ) from error
    return PostgresBackend(address)


def _checked_listen_url(url: str) -> str:
    if split_url(url).scheme not in SCHEMES:
        raise ConfigError(f"setting 'listen_url' cannot be {redacted(url)!r}: it must be a postgresql:// URL, too")
    if own := options_of(url).keys() & set(_OPTIONS):
        raise ConfigError(f"setting 'listen_url' has the option {min(own)!r}, which belongs into the store's own URL")
    _check_by_libpq(url, "setting 'listen_url'")
    return url


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
