"""Records: objects with named fields, of Pydantic, attrs, dataclasses, msgspec or NamedTuple."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Hashable, Iterable, Iterator
from functools import lru_cache
from typing import Any, get_args, get_type_hints, is_typeddict

import msgspec

MISSING: Any = msgspec.UNSET
"""The value of a field that has no value. A field with UNSET as its value needs no other mark."""


_MOST_CLASSES = 1024


def is_model(kind: Any) -> bool:
    """Whether this is the class of a Pydantic model, judged by its methods, so that Pydantic is not imported."""
    return _is_model(kind)


def names_model(annotation: Any) -> bool:
    """Whether an annotation names a Pydantic model, even in the fields of a dataclass or a typed dict."""
    return any(is_model(part) for part in _parts_of(annotation, set()))


def _parts_of(annotation: Any, seen: set[int]) -> Iterator[Any]:
    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    yield annotation
    parts = list(get_args(annotation))
    if dataclasses.is_dataclass(annotation) or is_typeddict(annotation) or hasattr(annotation, "_fields"):
        with contextlib.suppress(Exception):  # raised for a name that cannot be resolved
            parts += get_type_hints(annotation, include_extras=True).values()
    for part in parts:
        yield from _parts_of(part, seen)


def is_named_tuple(value: object) -> bool:
    """Whether a value is a named tuple."""
    return isinstance(value, tuple) and hasattr(type(value), "_fields")


def fields_of(value: object) -> dict[str, Any] | None:
    """
    Return the values of a record by field; None if the value is not a record.

    Extra fields (`extra="allow"`) and private attributes of a Pydantic model count as fields; computed fields and
    attributes that no field declares do not.
    """
    kind: Any = type(value)
    names = _field_names(kind)
    if names is None:
        return None
    if is_model(kind):
        return _model_fields(value, names)
    return {name: getattr(value, name, MISSING) for name in names}


def class_of(value: object) -> type:
    """Return the class of a value; for a generic Pydantic model, the class without its parameters."""
    metadata = getattr(type(value), "__pydantic_generic_metadata__", None)
    origin = metadata.get("origin") if isinstance(metadata, dict) else None
    return origin or type(value)


def path_to(target: object, root: object) -> str | None:
    """Return the path from a value to an object inside it; None if the value does not contain it."""
    return next((path for path, value in walk(root) if value is target), None)


def holds_model(root: object) -> bool:
    """Whether a value is a Pydantic model, or contains one."""
    return any(is_model(type(value)) for _, value in walk(root))


def walk(root: object) -> Iterator[tuple[str, Any]]:
    """Yield a value and all values inside it, with their paths; a value that contains itself comes once."""
    return _walk(root, "", frozenset())


def _walk(value: object, path: str, above: frozenset[int]) -> Iterator[tuple[str, Any]]:
    yield path, value
    if id(value) not in above:
        for step, child in _children(value):
            yield from _walk(child, path + step, above | {id(value)})


def _children(value: object) -> Iterator[tuple[str, Any]]:
    fields = fields_of(value)
    if fields is not None:
        for name, child in fields.items():
            yield f".{name}", child
    elif isinstance(value, dict):
        for key, child in value.items():
            yield key_step(key), child
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            yield f"[{index}]", child
    elif isinstance(value, set | frozenset):
        for child in value:
            yield ITEM_STEP, child


ITEM_STEP = "{…}"
"""The path step to an item of a set."""

_LONGEST_KEY = 100


def key_step(key: object) -> str:
    """Return the path step to the value of a dict's key; a key is shown only if it is a short text or an integer."""
    if type(key) is int or (type(key) is str and len(key) <= _LONGEST_KEY):
        return f"[{key!r}]"
    return f"[<{type(key).__qualname__}>]"


def _model_fields(model: Any, names: Iterable[str]) -> dict[str, Any]:
    values = vars(model)
    fields = {name: values.get(name, MISSING) for name in names}
    for further in ("__pydantic_extra__", "__pydantic_private__"):
        fields |= getattr(model, further, None) or {}
    return fields


@lru_cache(_MOST_CLASSES)
def _is_model(kind: Hashable) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump")


@lru_cache(_MOST_CLASSES)
def _field_names(kind: Any) -> tuple[str, ...] | None:
    if is_model(kind):
        return tuple(kind.model_fields)
    if issubclass(kind, msgspec.Struct):
        return tuple(kind.__struct_fields__)
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    attributes = getattr(kind, "__attrs_attrs__", None)
    if attributes is not None:
        return tuple(attribute.name for attribute in attributes)
    names: tuple[str, ...] | None = getattr(kind, "_fields", None) if issubclass(kind, tuple) else None
    return names
