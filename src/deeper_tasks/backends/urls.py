"""The URLs of stores: the settings that come with one, and the checks that the `url.py` of several stores make."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from deeper_tasks.config import redacted, split_url
from deeper_tasks.errors import ConfigError


class StoreSettings(Struct, frozen=True, kw_only=True):
    """The settings of a manager, beside its URL, that are for one kind of store. The meaning is that store's."""

    listen_url: str | None = None
    joined_hints: bool = True


def options_of(url: str) -> dict[str, str]:
    """Return the options of a URL, those after its question mark, by name."""
    return dict(parse_qsl(split_url(url).query, keep_blank_values=True))


def refuse_unknown_options(url: str, options: dict[str, str], *, known: str) -> None:
    """
    Refuse the options that are left when the store has taken its own; `known` lists those for the message.

    Raises:
        ConfigError: there are any.
    """
    if options:
        raise ConfigError(f"{redacted(url)!r} has the unknown option {next(iter(options))!r}; there are: {known}")


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
