"""The URL of a store: a form without its secrets, and the correction of a mistyped one."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath
from urllib.parse import SplitResult, quote, urlsplit

from deeper_tasks.errors import ConfigError

HIDDEN = "***"
"""The text that replaces a secret."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PREFIX = re.compile(r"(?:jdbc:)?[a-z][a-z0-9+.-]*:?//|//", re.IGNORECASE)
_USER = re.compile(r"([^:/?#@\s]*)(:.*)?", re.DOTALL)
_PORTS = re.compile(r"(?:\[[^\]]*\]|[^][:/?#])*(?::\d*(?=[,/?#]|\Z)(?:\[[^\]]*\]|[^][:/?#])*)*")
"""Hosts, as far as a colon is followed by the digits of a port."""
_SECRET_PAIR = re.compile(
    r"((?<!\w)[\w.%-]{0,60}(?:pass|pwd|secret|token|credential)[\w.%-]{0,60}\s*="
    r"|(?<!\w)(?!foreign_key\s*=)[\w.%-]{0,60}key\s*=)"
    r"\s*(?:(?:'(?:[^'\\]|\\.)*'|[\w%.~+-]*)(?=[&;]\w+=|\s+\w+\s*=|\Z)|.*)",
    re.IGNORECASE | re.DOTALL,
)
"""
A pair in a URL or in libpq's other form, up to the next one.

If the value has a character that should have been encoded, its end is not known, and all the rest belongs to it.
"""


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

    A mistyped URL, or one whose password was not percent-encoded, is hidden too, in doubt with more than its secrets:
    all that follows the user, up to the last `@`; without an `@`, all that follows a colon where no port does; and the
    values of the names that look like secrets, also in libpq's other form (`host=… password=…`).
    """
    prefix = match[0] if (match := _PREFIX.match(url)) else ""
    rest = url[len(prefix) :]
    if prefix.lower() != "sqlite://" or not rest.startswith("/"):
        rest = _without_password(rest, has_prefix=bool(prefix))
    return prefix + without_secret_pairs(rest)


def without_secret_pairs(text: str) -> str:
    """Return a text with `***` for each value of `name=value` whose name looks like that of a secret."""
    return _SECRET_PAIR.sub(rf"\1{HIDDEN}", text)


def _without_password(rest: str, *, has_prefix: bool) -> str:
    if "@" in rest:
        end = rest.rindex("@")
        # A secret that goes on behind the last @ is hidden to its own end.
        cut = max([end, *(pair.end() for pair in _SECRET_PAIR.finditer(rest) if pair.start() < end)])
        before, behind = rest[:cut], rest[cut + 1 :]
        user = _USER.fullmatch(before)
        if user is None:
            return f"{HIDDEN}@{behind}"
        return f"{user[1]}:{HIDDEN}@{behind}" if user[2] else rest
    hosts = _PORTS.match(rest)
    if has_prefix and hosts is not None and rest[hosts.end() : hosts.end() + 1] == ":":
        return f"{rest[: hosts.end()]}:{HIDDEN}"
    return rest


def right_file_urls(url: str) -> str:
    """Return the advice with the correct URLs for the file that a wrong SQLite URL probably names."""
    path, mark, options = url.partition(":")[2].lstrip("/").replace("#", "%23").partition("?")
    path = normpath(path) if path else ""
    name = ("tasks.db" if path in {"", ".", "..", ":memory:"} else path) + mark + options
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
    if scheme.lower() in {"sqlite", "file"} and colon:
        return right_file_urls(url)
    if scheme.lower() == "jdbc":
        return f"write {rest}"
    if colon and scheme.isalnum() and HIDDEN not in scheme:
        return f"write {scheme}://{rest.lstrip('/')}"
    return "a store's URL begins with its scheme, such as 'sqlite:///tasks.db'"


def check_characters(url: str) -> None:
    """
    Check that a URL has no character that never belongs into one; its message quotes only that.

    Raises:
        ConfigError: it has a blank at an end, or a control character.
    """
    if url != url.strip(" "):
        raise ConfigError("it has a blank at its beginning or end: remove it; one in the name of a file is written %20")
    found = _CONTROL.search(url)
    if found is not None:
        encoded = "" if found[0] == "\0" else f", or percent-encode it as %{ord(found[0]):02X}"
        raise ConfigError(f"it has the control character {found[0]!r}: remove it{encoded}")
