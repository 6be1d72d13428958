"""Type fit: checks, as far as possible, whether a value may be of a type that cannot be read from JSON."""

from __future__ import annotations

import types
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, is_typeddict

_PLAIN = (str, int, float, list, tuple, dict)


def fits(value: object, annotation: Any) -> bool:
    """
    Return False if a value is certainly not of the annotated type.

    The value is taken by its JSON form, so a list fits a tuple, and an integer fits a float.
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return fits(value, parts[0])
    if isinstance(annotation, NewType):
        return fits(value, annotation.__supertype__)
    if origin in {Union, types.UnionType}:
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in parts)
    kind = type(None) if annotation is None else origin or annotation
    if not isinstance(kind, type):
        return True
    return _is_of(value, kind) and _holds(value, kind, parts)


def _is_of(value: object, kind: Any) -> bool:
    if is_typeddict(kind):
        return isinstance(value, dict)
    base = next((plain for plain in _PLAIN if issubclass(kind, plain)), None)
    if base is None or issubclass(kind, bool | Enum) or hasattr(kind, "_fields"):
        return _is_instance(value, kind)
    if isinstance(value, bool):
        return False
    # The comparison counts an instance of a subclass and its plain value as equal, so both fit.
    alike: dict[type, Any] = {float: float | int, tuple: tuple | list, list: list | tuple}
    return isinstance(value, alike.get(base, base))


def _is_instance(value: object, kind: Any) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:
        # A Protocol without @runtime_checkable.
        return True


def _holds(value: object, kind: type, parts: tuple[Any, ...]) -> bool:
    """Whether the items of a container fit the parts of its annotation."""
    if not parts:
        return True
    if isinstance(value, dict):
        keys_fit = all(fits(key, parts[0]) for key in value)
        return keys_fit and (len(parts) == 1 or all(fits(item, parts[1]) for item in value.values()))
    if isinstance(value, str) and parts == (str,):
        return True
    if not isinstance(value, str | list | tuple) or not issubclass(kind, Iterable):
        return True
    if issubclass(kind, tuple) and Ellipsis not in parts:
        return len(value) == len(parts) and all(map(fits, value, parts))
    return all(fits(item, parts[0]) for item in value)
