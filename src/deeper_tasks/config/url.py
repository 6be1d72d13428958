"""The URL of a store: a form without its secrets, and the correction of a mistyped one."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from deeper_tasks.errors import ConfigError

_USER_AND_PASSWORD = re.compile(r"^((?:[a-z][a-z0-9+.-]*://|(?!.*://))[^:/?#@]*):.*@", re.IGNORECASE | re.DOTALL)
_SECRET_PARAMETER = re.compile(r"([?&;][^=&;]*(?:pass|secret|token|key)[^=&;]*=)[^&;#]*", re.IGNORECASE)


def split_url(url: str) -> SplitResult:
    """
    Return the parts of a URL.

    Raises:
        ConfigError: the URL has a wrong form; the message does not quote it.
    """
    try:
        return urlsplit(url)
    except ValueError:
        # Not chained: the text of the ValueError may quote the password.
        raise ConfigError(
            "its user, password and host cannot be separated; write square brackets only around an IPv6 address, "
            "and percent-encode special characters in the user and the password"
        ) from None


def redacted(url: str) -> str:
    """
    Return a URL with `***` for its password and for parameters that look like secrets.

    A password that was not percent-encoded is hidden too; then the text behind it, up to the last `@`, is also hidden.
    """
    return _SECRET_PARAMETER.sub(r"\1***", _USER_AND_PASSWORD.sub(r"\1:***@", url))


def right_file_urls(url: str) -> str:
    """Return the advice with the correct URLs for the file that a wrong SQLite URL probably names."""
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
    """Return the advice with the correct form of a URL that lacks `://`."""
    scheme, colon, rest = url.partition(":")
    if scheme.lower() == "sqlite" and colon:
        return right_file_urls(url)
    if colon and scheme.isalnum():
        return f"write {scheme}://{rest.lstrip('/')}"
    return "a store's URL begins with its scheme, such as 'sqlite:///tasks.db'"
