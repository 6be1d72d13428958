"""Text forms: types of the standard library of whose values a text says everything."""

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
    """Whether values of a class are written as a text, and read from it."""
    return isinstance(kind, type) and issubclass(kind, _KINDS)


def from_text(kind: Any, text: object) -> Any:
    """Return the value of a class that a text says. Raises RefusedError."""
    if not isinstance(text, str):
        message = f"expected `str`, got `{type(text).__qualname__}`"
        raise RefusedError(message)
    try:
        return kind(text)
    except Exception:  # noqa: BLE001 - each class has its own, which quote the text
        message = f"the text says no `{kind.__qualname__}`"
        raise RefusedError(message) from None
