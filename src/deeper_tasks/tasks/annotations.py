"""Annotations: codecs that check the values of a parameter, and turn them into JSON and back, by its annotation."""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any, Protocol

import msgspec
from msgspec import inspect as shapes

from deeper_tasks.tasks.comparison import check_unaltered
from deeper_tasks.tasks.json_values import NotJsonError, NotJsonTypeError, as_plain, check_json, encode_json
from deeper_tasks.tasks.mixed_enums import StandIn, member_of, with_stand_ins
from deeper_tasks.tasks.records import holds_model, is_model, names_model, path_to, walk
from deeper_tasks.tasks.refusals import RefusedError, reason_of, reason_of_model
from deeper_tasks.tasks.text_forms import from_text, has_text_form
from deeper_tasks.tasks.type_fit import fits

_PLAIN_TYPES: dict[type[shapes.Type], frozenset[type]] = {
    shapes.NoneType: frozenset({type(None)}),
    shapes.BoolType: frozenset({bool}),
    shapes.IntType: frozenset({int}),
    shapes.FloatType: frozenset({float, int}),
    shapes.StrType: frozenset({str}),
}

_ANNOTATE = "; annotate the parameter with the type, such as `when: datetime`, or pass JSON values"
_WRITTEN_SO = (
    "; the model itself has written it so: check its excluded fields, aliases and serializers, "
    "or pass the needed values as separate arguments"
)
_NO_KEYS = (bool, type(None), tuple, frozenset, msgspec.Struct)
# Pydantic's warnings would show values, and the comparison finds the same faults.
_DUMP: dict[str, Any] = {"mode": "json", "by_alias": True, "round_trip": True, "warnings": "none"}
# Pydantic's own part of a message, without the text of a serializer's error.
_UNWRITTEN = re.compile(r"Error calling function `[^`]*`: \w+|Unable to serialize unknown type: <class '[^']*'>")
_UNREADABLE = (
    ", and the annotated type cannot be read from JSON; annotate a type that can be, "
    "or annotate `Any` and let the task make the value from JSON values"
)


class Codec(Protocol):
    """Turns the value of one parameter into JSON values and back. `refusals.reason_of` explains its exceptions."""

    def dump(self, value: Any) -> Any:
        """Return the value as JSON values from which `load` makes an equal value; raise if there are none."""

    def dump_uncompared(self, value: Any) -> Any:
        """Return the value as JSON values that `load` can read, without comparing the result with the value."""

    def load(self, value: Any) -> Any:
        """Return the value that the handler gets."""


class Untyped:
    """The codec of a parameter without an annotation."""

    def dump(self, value: Any) -> Any:
        """Return any JSON value as it is."""
        _check_json(value, _ANNOTATE)
        return value

    dump_uncompared = dump

    def load(self, value: Any) -> Any:
        """Return the JSON value."""
        return value


class Unreadable:
    """The codec of an annotation that cannot be read from JSON; it accepts JSON values that may be of its type."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation

    def dump(self, value: Any) -> Any:
        """Return a JSON value; raise if it is certainly not of the annotated type."""
        _check_json(value, _UNREADABLE)
        return self.load(value)

    dump_uncompared = dump

    def load(self, value: Any) -> Any:
        """Return the JSON value; raise if it is certainly not of the annotated type."""
        if not fits(value, self._annotation):
            shown = inspect.formatannotation(self._annotation)
            message = f"expected `{shown}`, got `{type(value).__qualname__}`{_UNREADABLE}"
            raise RefusedError(message)
        return value


class Plain:
    """The codec of an annotation that consists of JSON's own types; values are checked and stay as they are."""

    def __init__(self, annotation: Any, exact: frozenset[type], *, has_floats: bool) -> None:
        self._annotation = annotation
        self._exact = exact
        self._has_floats = has_floats

    def dump(self, value: Any) -> Any:
        """Return a value of the annotated type; raise if it would arrive as another."""
        arrived = value if type(value) in self._exact else self._checked(value)
        _check_json(value, _ANNOTATE)
        # Only floats need the slow comparison: an integer may become another number in a list[float]. The fast `!=`
        # comes first; it also differs for a tuple that becomes a list.
        if self._has_floats and arrived is not value and arrived != value:
            check_unaltered(value, arrived)
        return value

    def dump_uncompared(self, value: Any) -> Any:
        """Return a value of the annotated type."""
        if type(value) not in self._exact:
            self._checked(value)
        _check_json(value, _ANNOTATE)
        return value

    def load(self, value: Any) -> Any:
        """Return the value if it still has the annotated type."""
        if type(value) in self._exact:
            return value
        return msgspec.convert(value, self._annotation)

    def _checked(self, value: Any) -> Any:
        """Return the value that `load` will return for a value."""
        try:
            return msgspec.convert(value, self._annotation)
        except msgspec.ValidationError as error:
            try:
                check_json(value)
            except NotJsonError:
                raise error from None
            # Subclasses of float, such as NumPy's, are refused by msgspec; their plain values pass.
            return msgspec.convert(msgspec.json.decode(encode_json(value)), self._annotation)


class Rich:
    """The codec of types that JSON lacks: dataclasses, models, dates, enums, bytes, sets and tuples."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation

    def dump(self, value: Any) -> Any:
        """Return the value as JSON values from which the same value can be restored."""
        plain, restored = self._there_and_back(value)
        check_unaltered(value, restored)
        return plain

    def dump_uncompared(self, value: Any) -> Any:
        """Return the value as JSON values from which a value can be restored."""
        return self._there_and_back(value)[0]

    def load(self, value: Any) -> Any:
        """Restore the value."""
        return msgspec.convert(value, self._annotation, str_keys=True, dec_hook=_load_other)

    def _there_and_back(self, value: Any) -> tuple[Any, Any]:
        plain = self._written(value)
        check_json(plain)
        try:
            return plain, self.load(plain)
        except (msgspec.ValidationError, RefusedError) as error:
            if holds_model(value):
                raise RefusedError(f"{reason_of(error)}{_WRITTEN_SO}") from None
            raise

    def _written(self, value: Any) -> Any:
        try:
            return msgspec.to_builtins(value, str_keys=True, order="deterministic", enc_hook=_dump_other)
        except _UnwritableError as error:
            raise error.placed_in(value) from None
        except TypeError as error:
            raise _placed(error, value) from None


class Adapted(Rich):
    """The codec of annotations that only Pydantic can read, such as a union of several models, at any depth."""

    def __init__(self, annotation: Any) -> None:
        super().__init__(annotation)
        # The annotation names a model, so Pydantic has been imported already.
        self._adapter = sys.modules["pydantic"].TypeAdapter(annotation)

    def load(self, value: Any) -> Any:
        """Restore the value."""
        try:
            return self._adapter.validate_json(encode_json(value))
        except ValueError as error:
            raise RefusedError(reason_of_model(error)) from None

    def _written(self, value: Any) -> Any:
        try:
            return self._adapter.dump_python(value, **_DUMP)
        except (ValueError, TypeError) as error:
            message = f"it cannot be written to JSON: {_unwritten(error)}"
            raise RefusedError(message) from None


def _placed(error: TypeError, value: object) -> Exception:
    """Return an error that names the place of the set or dict that msgspec could not write."""
    for path, part in walk(value):
        if isinstance(part, set | frozenset) and not _is_sortable(part):
            placed = NotJsonTypeError("the items of a set cannot be sorted, so it has no single JSON text; pass a list")
        elif isinstance(part, dict) and (keys := [key for key in part if isinstance(key, _NO_KEYS)]):
            placed = NotJsonTypeError(f"a key cannot be a {type(keys[0]).__qualname__} in JSON; pass a list of pairs")
        else:
            continue
        placed.path = path
        return placed
    return error


def _is_sortable(items: Iterable[Any]) -> bool:
    try:
        sorted(items)
    except TypeError:
        return False
    return True


class _UnwritableError(NotJsonTypeError):
    """The error of a value whose type cannot be written to JSON."""

    def __init__(self, culprit: object) -> None:
        super().__init__(f"values of type {type(culprit).__qualname__} are not JSON")
        self._culprit = culprit

    def placed_in(self, value: object) -> NotJsonTypeError:
        """Return the error with the path from the whole value to the part that cannot be written."""
        error = NotJsonTypeError(f"{self.reason}; pass JSON values, or a type that an annotation can name")
        error.path = path_to(self._culprit, value) or ""
        return error


def codec_for(annotation: Any) -> Codec:
    """Return the codec of an annotation; `inspect.Parameter.empty` stands for a missing one."""
    readable = with_stand_ins(annotation)
    try:
        shape = shapes.type_info(readable)
        msgspec.json.Decoder(readable)
    except (TypeError, ValueError, NotImplementedError):
        return _codec_of_unreadable(annotation)
    if isinstance(shape, shapes.AnyType):
        return Untyped()
    if not _is_readable(shape):
        return _codec_of_unreadable(annotation)
    if _is_plain(shape):
        return Plain(readable, _exact_types(shape), has_floats=_has_floats(shape))
    return Rich(readable)


def _codec_of_unreadable(annotation: Any) -> Codec:
    if names_model(annotation):
        try:
            return Adapted(annotation)
        except Exception:  # noqa: BLE001, S110 - Pydantic raises many kinds; it cannot read this either
            pass
    return Unreadable(annotation)


def _check_json(value: object, way_out: str) -> None:
    try:
        check_json(value)
    except NotJsonTypeError as error:
        error.reason += way_out
        raise


def annotations_of(function: Callable[..., object], signature: inspect.Signature) -> dict[str, Any]:
    """
    Return the annotation of each parameter of a function's signature; Any if there is none or its names are unknown.

    A decorator may come from another module, but keep the signature of the function that it wraps: then the names in
    the annotations are those of the wrapped function's module.
    """
    scopes = list(_scopes(function))
    return {name: _resolved(each.annotation, scopes) for name, each in signature.parameters.items()}


def _scopes(function: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Yield the namespaces of annotations: first that of the innermost function, then those of its wrappers."""
    chain = [function]
    while (wrapped := getattr(chain[-1], "__wrapped__", None)) is not None and wrapped not in chain:
        chain.append(wrapped)
    for each in reversed(chain):
        yield getattr(each, "__globals__", {})
        yield vars(sys.modules.get(getattr(each, "__module__", None) or "", types.SimpleNamespace()))


def _resolved(annotation: Any, scopes: Iterable[dict[str, Any]]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    for scope in scopes:
        try:
            return typing.get_type_hints(holder, scope, include_extras=True)["it"]
        except Exception:  # noqa: BLE001, S112 - any expression, or a name under TYPE_CHECKING: it counts as missing
            continue
    return Any


def _is_readable(shape: shapes.Type) -> bool:
    if isinstance(shape, shapes.CustomType):
        return is_model(shape.cls) or has_text_form(shape.cls) or isinstance(shape.cls, StandIn)
    if isinstance(shape, shapes.DictType) and isinstance(shape.key_type, shapes.CustomType):
        # msgspec calls no hook for keys.
        return False
    return all(_is_readable(part) for part in _parts(shape))


def _is_plain(shape: shapes.Type) -> bool:
    if isinstance(shape, shapes.ListType | shapes.UnionType):
        return all(_is_plain(part) for part in _parts(shape))
    if isinstance(shape, shapes.DictType):
        return isinstance(shape.key_type, shapes.StrType | shapes.AnyType) and _is_plain(shape.value_type)
    return isinstance(shape, shapes.AnyType | shapes.LiteralType) or type(shape) in _PLAIN_TYPES


def _has_floats(shape: shapes.Type) -> bool:
    return isinstance(shape, shapes.FloatType) or any(map(_has_floats, _parts(shape)))


def _parts(shape: shapes.Type) -> tuple[shapes.Type, ...]:
    if isinstance(shape, shapes.UnionType):
        return shape.types
    if isinstance(shape, shapes.CollectionType):
        return (shape.item_type,)
    if isinstance(shape, shapes.DictType):
        return (shape.key_type, shape.value_type)
    return ()


def _exact_types(shape: shapes.Type) -> frozenset[type]:
    """Return the classes whose direct instances need no further check against the annotation."""
    if isinstance(shape, shapes.UnionType):
        return reduce(frozenset.union, map(_exact_types, shape.types))
    has_limits = any(getattr(shape, name, None) is not None for name in shape.__struct_fields__)
    return frozenset() if has_limits else _PLAIN_TYPES.get(type(shape), frozenset())


def _dump_other(value: Any) -> Any:
    if is_model(type(value)):
        return _dump_model(value)
    if has_text_form(type(value)):
        return str(value)
    try:
        return as_plain(value)
    except NotImplementedError:
        raise _UnwritableError(value) from None


def _dump_model(model: Any) -> Any:
    try:
        return model.model_dump(**_DUMP)
    except (ValueError, TypeError) as error:
        message = f"a `{type(model).__qualname__}` cannot be written to JSON: {_unwritten(error)}"
        raise RefusedError(message) from None


def _unwritten(error: Exception) -> str:
    own = _UNWRITTEN.match(str(error)) if type(error).__name__ == "PydanticSerializationError" else None
    return reason_of(error) if own is None else own[0]


def _load_other(kind: Any, value: Any) -> Any:
    if isinstance(kind, StandIn):
        return member_of(kind, value)
    if has_text_form(kind):
        return from_text(kind, value)
    if not is_model(kind):
        message = f"a `{getattr(kind, '__qualname__', kind)}` cannot be read from JSON"
        raise RefusedError(message)
    try:
        return kind.model_validate_json(encode_json(value))
    except ValueError as error:
        raise RefusedError(reason_of_model(error)) from None
