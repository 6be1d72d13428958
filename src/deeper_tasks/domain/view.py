"""A view: a value that is given to the user, and the one way in which it becomes JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct


class View(Struct, frozen=True):
    """
    The base of all returned values and of all events: they can be written as plain JSON.

    The command's `--json` is made in the same way.
    """

    def to_dict(self) -> dict[str, Any]:
        """
        Return the fields by name, in dicts, lists, texts, numbers, booleans and None only.

        A moment is a text of ISO 8601 in UTC, a duration one such as `PT1.5S`, an enumeration its value. It is what
        `json.loads(value.to_json())` gives; a change of it changes nothing else.
        """
        plain: dict[str, Any] = msgspec.json.decode(to_json(self))
        return plain

    def to_json(self) -> str:
        """Return the value as one line of JSON; the keys are the names of the fields."""
        return to_json(self)


def to_json(value: object) -> str:
    """Return a view, or lists and dicts of views and plain values, as one line of JSON."""
    return _encoder.encode(value).decode()


def _as_text(value: object) -> str:
    # The class of a task's id is a subclass of str, which the encoder does not take for one.
    return str.__str__(value) if isinstance(value, str) else str(value)


_encoder = msgspec.json.Encoder(enc_hook=_as_text)
