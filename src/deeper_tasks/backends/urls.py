"""The URLs of stores: the settings that come with one, and the checks that the `url.py` of several stores make."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from deeper_tasks.config import redacted, split_url, without_secret_pairs
from deeper_tasks.errors import ConfigError

_OPTION_NAME = re.compile(r"\w{1,40}")


class StoreSettings(Struct, frozen=True, kw_only=True):
    """The settings of a manager, beside its URL, that are for one kind of store. The meaning is that store's."""

    listen_url: str | None = None
    joined_hints: bool = True


def options_of(url: str) -> dict[str, str]:
    """
    Return the options of a URL, those after its question mark, by name.

    Raises:
        ConfigError: an option is given twice, or has another behind a semicolon.
    """
    options: dict[str, str] = {}
    for name, value in parse_qsl(split_url(url).query, keep_blank_values=True):
        if name in options:
            raise ConfigError(f"{redacted(url)!r} has {_named(url, name)} twice: keep one")
        if _holds_secret_pair(name, value):
            raise ConfigError(
                f"{redacted(url)!r} has an option within another: write & between options, and percent-encode & and = "
                f"in their values"
            )
        options[name] = value
    return options


def refuse_unknown_options(url: str, options: dict[str, str], *, known: str) -> None:
    """
    Refuse the options that are left when the store has taken its own; `known` lists those for the message.

    Raises:
        ConfigError: there are any.
    """
    if options:
        name = _named(url, next(iter(options)), kind="unknown option")
        raise ConfigError(f"{redacted(url)!r} has {name}; there are: {known}")


def _holds_secret_pair(name: str, value: str) -> bool:
    # libpq's own `options` holds pairs by its nature.
    if name == "options" and ";" not in value:
        return False
    return (without_secret_pairs(name), without_secret_pairs(value)) != (name, value)


def _named(url: str, name: str, *, kind: str = "option") -> str:
    """Return the name of an option for a message, unless it may be a part of a password that was not encoded."""
    is_sure = _OPTION_NAME.fullmatch(name) and "@" not in url.partition("?")[2]
    return f"the {kind} {name!r}" if is_sure else f"an {kind}"


def refuse_listen_url(url: str, settings: StoreSettings) -> None:
    """
    Refuse the setting `listen_url` for a store that has no use for it.

    Raises:
        ConfigError: it is set.
    """
    if settings.listen_url is not None:
        raise ConfigError(
            f"setting 'listen_url' is only for postgresql:// stores, and the store is {redacted(url)!r}: leave it out"
        )


def file_path(url: str) -> Path:
    """Return the path of the file that a URL with three slashes names; it may begin at the working folder."""
    return Path(unquote(split_url(url).path).removeprefix("/"))
