"""Records: objects with named fields, made with Pydantic, attrs, dataclasses, msgspec or NamedTuple."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Hashable, Iterable, Iterator
from functools import lru_cache
from typing import Any, get_args, get_type_hints, is_typeddict

import msgspec

MISSING: Any = msgspec.UNSET
"""Stands for a field that has no value. UNSET itself is compared by identity, so it is its own stand-in."""


_MOST_CLASSES = 1024


def is_model(kind: Any) -> bool:
    """Whether this is a Pydantic model's class, known by its methods: Pydantic itself is never imported."""
    return _is_model(kind)


def names_model(annotation: Any) -> bool:
    """Whether an annotation names a Pydantic model, also in the fields of a dataclass or a typed dict."""
    return any(is_model(part) for part in _parts_of(annotation, set()))


def _parts_of(annotation: Any, seen: set[int]) -> Iterator[Any]:
    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    yield annotation
    parts = list(get_args(annotation))
    if dataclasses.is_dataclass(annotation) or is_typeddict(annotation) or hasattr(annotation, "_fields"):
        with contextlib.suppress(Exception):  # a name that cannot be resolved
            parts += get_type_hints(annotation, include_extras=True).values()
    for part in parts:
        yield from _parts_of(part, seen)


def is_named_tuple(value: object) -> bool:
    """Whether this is a tuple whose items have names."""
    return isinstance(value, tuple) and hasattr(type(value), "_fields")


def fields_of(value: object) -> dict[str, Any] | None:
    """
    Return what a record holds, by field; None if this is no record.

    A Pydantic model's further fields (`extra="allow"`) and private attributes count, its
    computed fields do not. An attribute that no field declares is not part of a record.
    """
    kind: Any = type(value)
    names = _field_names(kind)
    if names is None:
        return None
    if is_model(kind):
        return _model_fields(value, names)
    return {name: getattr(value, name, MISSING) for name in names}


def class_of(value: object) -> type:
    """Return the class of a value; for a generic Pydantic model the one without its parameters."""
    metadata = getattr(type(value), "__pydantic_generic_metadata__", None)
    origin = metadata.get("origin") if isinstance(metadata, dict) else None
    return origin or type(value)


def path_to(target: object, root: object) -> str | None:
    """Return the path from a value to an object inside it; None if it is not there."""
    return next((path for path, value in walk(root) if value is target), None)


def holds_model(root: object) -> bool:
    """Whether a value is a Pydantic model, or one is inside it."""
    return any(is_model(type(value)) for _, value in walk(root))


def walk(root: object) -> Iterator[tuple[str, Any]]:
    """Yield a value and all inside it with their paths; one that is inside itself only once."""
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
"""The step of a path to an item of a set."""

_LONGEST_KEY = 100


def key_step(key: object) -> str:
    """Return the step of a path to what a dict holds under a key; only a short text or an integer is shown."""
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
