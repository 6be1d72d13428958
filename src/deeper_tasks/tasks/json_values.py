"""JSON values: what may travel in arguments and meta, and the one text for each."""

from __future__ import annotations

from math import isfinite
from typing import Any, Self

import msgspec

_SMALLEST_INT, _LARGEST_INT = -(2**63), 2**64 - 1


class PlacedError(ValueError):
    """Something is wrong with a value, or one inside it. `path` leads to it: `[3]`, `['name']`, `.field`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = ""

    def inside(self, key: object) -> Self:
        """Return the error as seen from the container that holds the value under `key`."""
        return self.at(f"[{key!r}]")

    def at(self, step: str) -> Self:
        """Return the error as seen from one step further out."""
        self.path = step + self.path
        return self


class NotJsonError(PlacedError):
    """A value, or one inside it, is not JSON."""


class NotJsonTypeError(NotJsonError):
    """A value is of a type that JSON has not."""


def check_json(value: object) -> None:
    """
    Refuse whatever JSON cannot give back: other types, NaN and infinities, keys that are no strings.

    Subclasses of `str`, `int` and `float` pass, and arrive as those; a tuple arrives as a list.

    Raises:
        NotJsonError: names the type and the place.
        RecursionError: nested too deeply, or inside itself.
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
    Return the text of a checked value. Equal values give the same text: keys are sorted.

    Raises:
        NotJsonError: a string that is no valid Unicode.
    """
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError as error:
        reason = "a lone surrogate is not valid text"
        raise NotJsonError(reason) from error


def as_plain(value: object) -> object:
    """Return the `str`, `int` or `float` that an instance of a subclass stands for."""
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
    """Whether larger integers survive depends on msgspec's version."""
    if _SMALLEST_INT <= value <= _LARGEST_INT:
        return
    try:
        is_kept = msgspec.json.decode(_ENCODER.encode(value)) == value
    except (OverflowError, ValueError, msgspec.MsgspecError):
        is_kept = False
    if not is_kept:
        reason = "an integer of more than 64 bits would not arrive as it is"
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
