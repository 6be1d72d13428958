"""The parameters: functions that parse values of the command line, one for each kind of value."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
import msgspec

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.IGNORECASE | re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str) -> float:
    """Return the seconds of a duration: `90`, `1.5h`, `7d`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a duration; write a number of seconds, or 30s, 5m, 2h, 7d")
    return float(match[1]) * _SECONDS[match[2].lower()]


def moment(text: str) -> datetime:
    """Return a time in ISO form as an aware datetime; a time without a zone is local time."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is not a time; write 2026-01-31T09:00, or 2026-01-31T09:00+01:00") from None


def json_of(kind: type, *, example: str) -> Callable[[str], Any]:
    """Return a parser of JSON documents of one type; `example` goes into its error messages."""

    def json(text: str) -> Any:
        try:
            return msgspec.json.decode(text, type=kind)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise click.BadParameter(f"{text!r} cannot be read: {error}; write for example '{example}'") from error

    return json


def loose_json(text: str) -> Any:
    """Return the JSON value of a text, or the text itself if it is not JSON: `42` is a number, `hello` a string."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text
