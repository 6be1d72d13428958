"""A view: a value that is returned to the user, and the one way in which it becomes JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct


class View(Struct, frozen=True):
    """
    The base of all returned values and of all events, each of which can be written as plain JSON.

    The command's `--json` prints the same.
    """

    def to_dict(self) -> dict[str, Any]:
        """
        Return the fields by name, as dicts, lists, texts, numbers, booleans and None only.

        A moment becomes a text of ISO 8601 in UTC, a duration a text such as `PT1.5S`, a member of an enumeration its
        value. The result equals `json.loads(value.to_json())`, and is a copy.
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
    # The id of a task is a subclass of str, which the encoder does not accept.
    return str.__str__(value) if isinstance(value, str) else str(value)


_encoder = msgspec.json.Encoder(enc_hook=_as_text)
