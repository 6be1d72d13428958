"""JSON values: the check of values for arguments and meta data, and their encoding, one text for each value."""

from __future__ import annotations

from math import isfinite
from typing import Any, Self

import msgspec

_SMALLEST_INT, _LARGEST_INT = -(2**63), 2**64 - 1


class PlacedError(ValueError):
    """The error of a value or a part of it. `path` leads to the part: `[3]`, `['name']`, `.field`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = ""

    def inside(self, key: object) -> Self:
        """Return the error with the path from the container that holds the value under `key`."""
        return self.at(f"[{key!r}]")

    def at(self, step: str) -> Self:
        """Return the error with one step put in front of its path."""
        self.path = step + self.path
        return self


class NotJsonError(PlacedError):
    """The error of a value that is not JSON, or has a part that is not."""


class NotJsonTypeError(NotJsonError):
    """The error of a value whose type JSON lacks."""


def check_json(value: object) -> None:
    """
    Check that JSON can represent a value.

    Subclasses of `str`, `int` and `float` pass, and arrive as these types; a tuple arrives as a list.

    Raises:
        NotJsonError: a part has another type, is NaN or infinite, or is a key that is not a string; the message names
            the type and the place.
        RecursionError: the value is nested too deeply, or contains itself.
    """
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int):
        _check_int(value)
    elif isinstance(value, float):
        if not isfinite(value):
            reason = "NaN and infinities are not JSON"
            raise NotJsonError(reason)
    elif isinstance(value, list | tuple):
        _check_items(value)
    elif isinstance(value, dict):
        _check_entries(value)
    else:
        reason = f"values of type {type(value).__qualname__} are not JSON"
        raise NotJsonTypeError(reason)


def encode_json(value: object) -> bytes:
    """
    Return the JSON text of a checked value. Equal values give the same text, because keys are sorted.

    Raises:
        NotJsonError: a string is not valid Unicode.
    """
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError as error:
        reason = "a lone surrogate is not valid text"
        raise NotJsonError(reason) from error


def as_plain(value: object) -> object:
    """Return the plain `str`, `int` or `float` of an instance of a subclass."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    message = f"values of type {type(value).__qualname__} are not JSON"
    raise NotImplementedError(message)


_ENCODER = msgspec.json.Encoder(order="sorted", enc_hook=as_plain)


def _check_int(value: int) -> None:
    """Raise NotJsonError if an integer would be altered; for those of more than 64 bits msgspec's version decides."""
    if _SMALLEST_INT <= value <= _LARGEST_INT:
        return
    try:
        is_kept = msgspec.json.decode(_ENCODER.encode(value)) == value
    except (OverflowError, ValueError, msgspec.MsgspecError):
        is_kept = False
    if not is_kept:
        reason = "an integer of more than 64 bits would arrive altered; pass it as a string"
        raise NotJsonError(reason)


def _check_items(values: list[Any] | tuple[Any, ...]) -> None:
    for index, value in enumerate(values):
        try:
            check_json(value)
        except NotJsonError as error:
            raise error.inside(index) from None


def _check_entries(entries: dict[Any, Any]) -> None:
    for key, value in entries.items():
        if not isinstance(key, str):
            reason = f"a key must be a string, not {type(key).__qualname__}"
            raise NotJsonError(reason)
        try:
            check_json(value)
        except NotJsonError as error:
            raise error.inside(key) from None
