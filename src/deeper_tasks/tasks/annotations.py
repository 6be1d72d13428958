"""Annotations: how the value of a parameter is checked, and turned into JSON and back, by its type."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from functools import reduce
from typing import Any, Protocol

import msgspec
from msgspec import inspect as shapes

from deeper_tasks.tasks.json_values import NotJsonError, NotJsonTypeError, as_plain, check_json, encode_json

_PLAIN_TYPES: dict[type[shapes.Type], frozenset[type]] = {
    shapes.NoneType: frozenset({type(None)}),
    shapes.BoolType: frozenset({bool}),
    shapes.IntType: frozenset({int}),
    shapes.FloatType: frozenset({float, int}),
    shapes.StrType: frozenset({str}),
}

_ANNOTATE = "; annotate the parameter with the type, such as `when: datetime`, or pass JSON values"
_UNREADABLE = ", and the annotated type cannot be read from JSON; pass JSON values"


class Codec(Protocol):
    """Turns the value of one parameter into JSON values and back. Both raise ValueError or TypeError."""

    def dump(self, value: Any) -> Any:
        """Return the value as JSON values, checked."""

    def load(self, value: Any) -> Any:
        """Return the value that the handler gets."""


class Untyped:
    """The codec where the annotation says nothing, or nothing that can be read from JSON."""

    def __init__(self, way_out: str) -> None:
        self._way_out = way_out

    def dump(self, value: Any) -> Any:
        """Accept any JSON value."""
        _check_json(value, self._way_out)
        return value

    def load(self, value: Any) -> Any:
        """Return the JSON value."""
        return value


class Plain:
    """The codec of an annotation made of JSON's own types: values are checked and stay as they are."""

    def __init__(self, annotation: Any, exact: frozenset[type]) -> None:
        self._annotation = annotation
        self._exact = exact

    def dump(self, value: Any) -> Any:
        """Accept a value of the annotated type."""
        if type(value) not in self._exact:
            self._check(value)
        _check_json(value, _ANNOTATE)
        return value

    def load(self, value: Any) -> Any:
        """Return the value if it still has the annotated type."""
        if type(value) in self._exact:
            return value
        return msgspec.convert(value, self._annotation)

    def _check(self, value: Any) -> None:
        try:
            msgspec.convert(value, self._annotation)
        except msgspec.ValidationError as error:
            try:
                check_json(value)
            except NotJsonError:
                raise error from None
            # Subclasses of float, such as NumPy's, are refused as they are and pass as what they become.
            msgspec.convert(msgspec.json.decode(encode_json(value)), self._annotation)


class Rich:
    """The codec of types that JSON has not: dataclasses, models, dates, enums, bytes, sets and tuples."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._holds_bytes = annotation in {bytes, bytearray, bytes | None, bytearray | None}

    def dump(self, value: Any) -> Any:
        """Return the value as JSON values from which it can be restored."""
        if self._holds_bytes and isinstance(value, str):
            # It would be taken for base64, and arrive as other bytes or fail.
            message = "Expected `bytes`, got `str`"
            raise TypeError(message)
        plain = msgspec.to_builtins(value, str_keys=True, order="deterministic", enc_hook=_dump_other)
        check_json(plain)
        restored = self.load(plain)
        if type(restored) is not type(value) and isinstance(value, type(restored)) and _has_fields(type(restored)):
            message = (
                f"a `{type(value).__qualname__}` would arrive as a `{type(restored).__qualname__}`, without the rest"
            )
            raise TypeError(message)
        return plain

    def load(self, value: Any) -> Any:
        """Restore the value."""
        return msgspec.convert(value, self._annotation, str_keys=True, dec_hook=_load_other)


def codec_for(annotation: Any) -> Codec:
    """Return the codec of an annotation; `inspect.Parameter.empty` stands for none."""
    try:
        shape = shapes.type_info(annotation)
        msgspec.json.Decoder(annotation)
    except (TypeError, ValueError, NotImplementedError):
        return Untyped(_UNREADABLE)
    if isinstance(shape, shapes.AnyType):
        return Untyped(_ANNOTATE)
    if not _is_readable(shape):
        return Untyped(_UNREADABLE)
    if _is_plain(shape):
        return Plain(annotation, _exact_types(shape))
    return Rich(annotation)


def _check_json(value: object, way_out: str) -> None:
    try:
        check_json(value)
    except NotJsonTypeError as error:
        error.reason += way_out
        raise


def hints_of(function: Callable[..., object]) -> dict[str, Any]:
    """Return the annotations that can be resolved, by parameter."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation may be any expression
        return _hints_one_by_one(function)


def _hints_one_by_one(function: Callable[..., object]) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    namespace = getattr(function, "__globals__", {})
    for name, annotation in getattr(function, "__annotations__", {}).items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(holder, namespace, include_extras=True)
        except Exception:  # noqa: BLE001, S112 - a name under TYPE_CHECKING, for example: no annotation then
            continue
    return hints


def _is_readable(shape: shapes.Type) -> bool:
    if isinstance(shape, shapes.CustomType):
        return _is_model(shape.cls)
    return all(_is_readable(part) for part in _parts(shape))


def _is_plain(shape: shapes.Type) -> bool:
    if isinstance(shape, shapes.ListType | shapes.UnionType):
        return all(_is_plain(part) for part in _parts(shape))
    if isinstance(shape, shapes.DictType):
        return isinstance(shape.key_type, shapes.StrType | shapes.AnyType) and _is_plain(shape.value_type)
    return isinstance(shape, shapes.AnyType | shapes.LiteralType) or type(shape) in _PLAIN_TYPES


def _parts(shape: shapes.Type) -> tuple[shapes.Type, ...]:
    if isinstance(shape, shapes.UnionType):
        return shape.types
    if isinstance(shape, shapes.CollectionType):
        return (shape.item_type,)
    if isinstance(shape, shapes.DictType):
        return (shape.key_type, shape.value_type)
    return ()


def _exact_types(shape: shapes.Type) -> frozenset[type]:
    """Return the classes whose very instances need no further check against the annotation."""
    if isinstance(shape, shapes.UnionType):
        return reduce(frozenset.union, map(_exact_types, shape.types))
    has_limits = any(getattr(shape, name, None) is not None for name in shape.__struct_fields__)
    return frozenset() if has_limits else _PLAIN_TYPES.get(type(shape), frozenset())


def _is_model(kind: object) -> bool:
    """Whether this is a Pydantic model's class, known by its methods: Pydantic itself is never imported."""
    return isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump")


def _has_fields(kind: type) -> bool:
    return _is_model(kind) or dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct)


def _dump_other(value: Any) -> Any:
    if _is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    return as_plain(value)


def _load_other(kind: Any, value: Any) -> Any:
    if not _is_model(kind):
        message = f"a {getattr(kind, '__qualname__', kind)} cannot be read from JSON"
        raise NotImplementedError(message)
    try:
        return kind.model_validate_json(encode_json(value))
    except ValueError as error:
        raise ValueError(_without_values(error)) from None


def _without_values(error: ValueError) -> str:
    """Return what a model says is wrong, without the values: they may be secret."""
    faults = getattr(error, "errors", None)
    if faults is None:
        return str(error)
    listed = faults(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in listed)
