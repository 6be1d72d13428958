"""The URL of a store: how it may be shown, without its secrets, and how a mistyped one is to be written."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from deeper_tasks.errors import ConfigError

_USER_AND_PASSWORD = re.compile(r"^((?:[a-z][a-z0-9+.-]*://|(?!.*://))[^:/?#@]*):.*@", re.IGNORECASE | re.DOTALL)
_SECRET_PARAMETER = re.compile(r"([?&;][^=&;]*(?:pass|secret|token|key)[^=&;]*=)[^&;#]*", re.IGNORECASE)


def split_url(url: str) -> SplitResult:
    """
    Take a URL apart.

    Raises:
        ConfigError: it cannot be; the message is without the URL.
    """
    try:
        return urlsplit(url)
    except ValueError:
        # Its words may quote the password.
        raise ConfigError(
            "its user, password and host cannot be told apart; square brackets stand around an IPv6 address alone, "
            "and what is special in user and password is percent-encoded"
        ) from None


def redacted(url: str) -> str:
    """
    Return a URL with `***` for its password and for parameters that look like secrets.

    A password that was not percent-encoded is hidden too, at the price of
    hiding what follows it up to the last `@`.
    """
    return _SECRET_PARAMETER.sub(r"\1***", _USER_AND_PASSWORD.sub(r"\1:***@", url))


def right_file_urls(url: str) -> str:
    """Return how the file that a wrongly written URL of SQLite's may mean is to be written."""
    name = url.partition(":")[2].lstrip("/").replace("#", "%23")
    if name.partition("?")[0] in {"", ":memory:"}:
        name = "tasks.db"
    return (
        f"write sqlite:///{name} for the file in the working folder{_example_here(name)}, sqlite:////{name} for "
        f"the absolute path /{name}, or memory:// for a store in memory"
    )


def _example_here(name: str) -> str:
    try:
        return f" (sqlite:///{quote(str(Path.cwd()))}/{name})"
    except OSError:
        # The working folder was removed.
        return ""


def right_url(url: str) -> str:
    """Return how a URL of a store without `://` is to be written."""
    scheme, colon, rest = url.partition(":")
    if scheme.lower() == "sqlite" and colon:
        return right_file_urls(url)
    if colon and scheme.isalnum():
        return f"write {scheme}://{rest.lstrip('/')}"
    return "a store's URL begins with its scheme, such as 'sqlite:///tasks.db'"
