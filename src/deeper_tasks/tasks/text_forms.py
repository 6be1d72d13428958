"""Text forms: types of the standard library whose values are stored as their text."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Any
from zoneinfo import ZoneInfo

from deeper_tasks.tasks.refusals import RefusedError

_KINDS = (
    PurePath,
    Fraction,
    ZoneInfo,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)


def has_text_form(kind: Any) -> bool:
    """Whether values of a class are written as text and read from it."""
    return isinstance(kind, type) and issubclass(kind, _KINDS)


def from_text(kind: Any, text: object) -> Any:
    """Return the value of a class from its text; raise RefusedError if it is not such a text."""
    if not isinstance(text, str):
        message = f"expected `str`, got `{type(text).__qualname__}`"
        raise RefusedError(message)
    try:
        return kind(text)
    except Exception:  # noqa: BLE001 - each class raises its own errors, which quote the text
        message = f"the text is not a valid `{kind.__qualname__}`"
        raise RefusedError(message) from None
