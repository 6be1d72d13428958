"""
The comparison of an argument with the value that its JSON document gives back.

Values are compared part by part: records by field, containers by item, other values by type and value. The `__eq__` of
a container, model or dataclass is not used. These count as equal:

- a tuple and a list; an instance of a subclass of `str`, `int`, `float`, `list`, `tuple` or `dict`
  and its plain value (but a named tuple is a record);
- an int and a float of the same value, but not a bool and a number, nor 0.0 and -0.0;
- two NaNs;
- the same instant in two time zones; two naive datetimes with the same wall clock, without `fold`;
- a member of an Enum and its value.

Not compared are the order of a dict's keys, attributes that no field declares, and the set of a Pydantic model's fields
that were set explicitly.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import copysign
from typing import Any
from uuid import UUID

import msgspec

from deeper_tasks.tasks.json_values import PlacedError
from deeper_tasks.tasks.records import ITEM_STEP, MISSING, class_of, fields_of, is_model, is_named_tuple, key_step

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - subtracted from wall clocks
_SIMPLE = frozenset({str, int, bool, bytes, bytearray, UUID, date, timedelta, type(None)})
_BYTES = (bytes, bytearray, memoryview)

_MEND = (
    "; its class does not read back what it writes (check excluded fields, aliases, private attributes, serializers, "
    "validators): correct the class, or pass the needed values as separate arguments"
)
_ANNOTATE = "; annotate its place with `{}`, or pass JSON values"
_TOO_LARGE = "; a float holds integers exactly only up to 2**53: annotate its place with `int`, or pass a float"
_ODD_OFFSET = "; JSON keeps an offset from UTC to the minute: pass it in UTC"
_ZONE_OF_TIME = (
    "; a time in JSON keeps an offset from UTC, but no time zone: pass it without the zone, and the zone's name as a "
    "separate argument"
)
_ALIKE = "; its JSON form fits both: give the models a discriminator, or annotate its place with `{}` alone"
_UNNAMED_KEY = "; the annotation has no such key: add it there, or leave it out"
_ALL_ITEMS = "; give all items, because defaults replace missing ones"
_NOT_KEPT = "; a secret is not written to JSON: pass its name or key, and let the task look it up"
_OPT_OUT = "; check_arguments='signature' accepts it"


class AlteredValueError(PlacedError):
    """The error of a value that would arrive as another; `path` leads to the altered part."""


def check_unaltered(sent: object, arrived: object) -> None:
    """
    Check that a value is equal to the value that its JSON document gives back.

    If JSON values were sent for a type that JSON lacks (a text for a datetime, a dict for a dataclass), the value that
    the annotation makes of them counts as equal. But a text is not equal to bytes, and no key may be lost.

    Raises:
        AlteredValueError: the values differ; the message names the place and the types, never a value.
        RecursionError: the value is nested too deeply.
    """
    _check(sent, arrived, _Position(is_json=True, above=set()))


class _Position(msgspec.Struct, frozen=True):
    """
    The position of the comparison: whether the sent part is a JSON value, and the pairs of objects around it.

    `is_private` is set inside a model's private attributes: an object without visible state there, such as a lock or a
    cache, is made again with the model.
    """

    is_json: bool
    above: set[tuple[int, int]]
    is_private: bool = False

    def inside_object(self) -> _Position:
        return _Position(is_json=False, above=self.above, is_private=self.is_private) if self.is_json else self

    def inside_private(self) -> _Position:
        return _Position(is_json=False, above=self.above, is_private=True)


def _check(sent: Any, arrived: Any, position: _Position) -> None:
    if sent is arrived:
        return
    kind, other = type(sent), type(arrived)
    if kind is other and kind in _SIMPLE:
        if sent != arrived:
            raise _altered(sent, arrived)
    elif isinstance(sent, Enum) or isinstance(arrived, Enum):
        _check_enum(sent, arrived, position)
    elif _is_scalar(sent) and _is_scalar(arrived):
        _demand(_are_same_scalars(sent, arrived), sent, arrived)
    elif kind is other and (is_same := _LEAVES.get(kind)) is not None:
        _demand(is_same(sent, arrived), sent, arrived)
    elif position.is_json and _is_json_form(sent, arrived):
        _check_json_form(sent, arrived, position)
    else:
        _check_compound(sent, arrived, position)


def _check_compound(sent: Any, arrived: Any, position: _Position) -> None:
    pair = (id(sent), id(arrived))
    if pair in position.above:
        return
    position.above.add(pair)
    try:
        fields = fields_of(sent)
        if fields is not None:
            _check_record(sent, fields, arrived, position.inside_object())
        elif isinstance(sent, dict) and isinstance(arrived, dict):
            _check_entries(sent, arrived, position)
        elif _are_sequences(sent, arrived):
            _check_items(sent, arrived, position)
        elif type(sent) is type(arrived) and isinstance(sent, set | frozenset):
            _check_members(sent, arrived, position.inside_object())
        else:
            _check_object(sent, arrived, position.inside_object())
    finally:
        position.above.discard(pair)


def _check_enum(sent: Any, arrived: Any, position: _Position) -> None:
    if isinstance(sent, Enum) and isinstance(arrived, Enum):
        _demand(type(sent) is type(arrived) and sent.value == arrived.value, sent, arrived)
        return
    value, other = (item.value if isinstance(item, Enum) else item for item in (sent, arrived))
    try:
        _check(value, other, position.inside_object())
    except AlteredValueError:
        raise _altered(sent, arrived) from None


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float)


def _are_same_scalars(sent: Any, arrived: Any) -> bool:
    if isinstance(sent, str) or isinstance(arrived, str):
        return isinstance(sent, str) and isinstance(arrived, str) and str.__eq__(sent, arrived)
    if isinstance(sent, bool) or isinstance(arrived, bool):
        return False
    first, second = _number(sent), _number(arrived)
    if first != second:
        return first != first and second != second  # noqa: PLR0124 - NaN
    return not (isinstance(first, float) and isinstance(second, float)) or copysign(1, first) == copysign(1, second)


def _number(value: Any) -> int | float:
    return int.__int__(value) if isinstance(value, int) else float.__float__(value)


def _are_same_instants(sent: datetime, arrived: datetime) -> bool:
    # Not by `==`: a datetime near the calendar's end cannot be moved to UTC, and datetimes of two zones with a fold
    # are never equal. Their distances from the epoch are.
    first, second = sent.utcoffset(), arrived.utcoffset()
    if first is None or second is None:
        return first is second and _wall(sent) == _wall(arrived)
    return _wall(sent) - first == _wall(arrived) - second


def _wall(moment: datetime) -> timedelta:
    return moment.replace(tzinfo=None) - _EPOCH


def _are_same_times(sent: time, arrived: time) -> bool:
    has_same_zone = (sent.tzinfo is None) is (arrived.tzinfo is None) and sent.utcoffset() == arrived.utcoffset()
    return has_same_zone and sent.replace(tzinfo=None) == arrived.replace(tzinfo=None)


def _are_same_decimals(sent: Decimal, arrived: Decimal) -> bool:
    return sent.as_tuple() == arrived.as_tuple()


_LEAVES: dict[type, Callable[[Any, Any], bool]] = {
    datetime: _are_same_instants,
    time: _are_same_times,
    Decimal: _are_same_decimals,
}


def _is_json_form(sent: object, arrived: object) -> bool:
    """Whether a JSON value was sent, from which the annotation has made a value of another type."""
    if sent is None or _is_scalar(sent):
        return True
    if isinstance(sent, dict):
        return not isinstance(arrived, dict)
    return isinstance(sent, list | tuple) and not is_named_tuple(sent) and not isinstance(arrived, list | tuple)


def _check_json_form(sent: Any, arrived: Any, position: _Position) -> None:
    if is_model(type(arrived)):
        # The model's own rules decide which JSON values it accepts.
        return
    if isinstance(sent, str) and isinstance(arrived, _BYTES):
        raise AlteredValueError(
            f"expected `{type(arrived).__qualname__}`, got `str`; pass bytes, because text would be decoded from base64"
        )
    if sent is None or _is_scalar(arrived) or arrived is None:
        raise _altered(sent, arrived)
    if isinstance(sent, dict):
        _check_named(sent, arrived, position)
    elif isinstance(arrived, set | frozenset):
        for item in sent:
            _one_like(item, arrived, position)


def _check_named(sent: dict[Any, Any], arrived: object, position: _Position) -> None:
    """Check a dict from which a record was made against the fields that it names."""
    fields = fields_of(arrived)
    if fields is None:
        raise _altered(sent, arrived)
    if isinstance(arrived, msgspec.Struct):
        encoded = dict(zip(arrived.__struct_fields__, arrived.__struct_encode_fields__, strict=True))
        fields = {encoded[name]: value for name, value in fields.items()}
        tag_field = arrived.__struct_config__.tag_field
        sent = {key: value for key, value in sent.items() if key != tag_field}
    for key, value in sent.items():
        if key not in fields:
            message = f"a `{type(arrived).__qualname__}` has no such field, so the value would be lost; leave it out"
            raise AlteredValueError(message).at(key_step(key))
        _check_at(key_step(key), value, fields[key], position)


def _check_record(sent: object, fields: dict[str, Any], arrived: object, position: _Position) -> None:
    if class_of(sent) is not class_of(arrived):
        raise _altered(sent, arrived)
    others = fields_of(arrived) or {}
    has_private = is_model(type(sent))
    for name in fields | others:
        inside = position.inside_private() if has_private and name.startswith("_") else position
        _check_at(f".{name}", fields.get(name, MISSING), others.get(name, MISSING), inside)


def _check_entries(sent: Mapping[Any, Any], arrived: Mapping[Any, Any], position: _Position) -> None:
    if position.is_json and _are_keys_texts(sent, arrived):
        # The document has its keys in sorted order, and they were read in that order.
        pairs = zip(sorted(sent.items(), key=lambda entry: entry[0]), arrived.items(), strict=True)
        for (key, value), (other, arrived_value) in pairs:
            if isinstance(other, _BYTES):
                _check_at(key_step(key), key, other, position)
            _check_at(key_step(key), value, arrived_value, position)
        return
    left = {_value_of(key): key for key in arrived}
    for key, value in sent.items():
        other = left.pop(_value_of(key), MISSING)
        if other is MISSING:
            raise _altered_key(key, left.values(), position).at(key_step(key))
        _check_at(key_step(key), key, other, position.inside_object())
        _check_at(key_step(key), value, arrived[other], position)
    for key in left.values():
        raise _altered(MISSING, arrived[key]).at(key_step(key))


def _value_of(key: Any) -> Any:
    return key.value if isinstance(key, Enum) else key


def _are_keys_texts(sent: Mapping[Any, Any], arrived: Mapping[Any, Any]) -> bool:
    """Whether the keys were sent as texts, but are of another type in the annotation."""
    has_texts = len(sent) == len(arrived) and all(isinstance(key, str) for key in sent)
    return has_texts and any(key not in arrived for key in sent)


def _altered_key(key: object, others: Iterable[object], position: _Position) -> AlteredValueError:
    other = next(iter(others), MISSING)
    if other is MISSING:
        way_out = _UNNAMED_KEY if position.is_json else _MEND
        return AlteredValueError(f"the key, a `{_name(key)}`, would be lost{way_out}{_OPT_OUT}")
    reason = f"the key, a `{_name(key)}`, would arrive as {_article(key, other)}"
    return AlteredValueError(reason + _way_out(key, other) + _OPT_OUT)


def _are_sequences(sent: object, arrived: object) -> bool:
    if isinstance(sent, list | tuple) and isinstance(arrived, list | tuple):
        return True
    return type(sent) is type(arrived) and isinstance(sent, deque)


def _check_items(sent: Any, arrived: Any, position: _Position) -> None:
    for index, (item, other) in enumerate(zip(sent, arrived, strict=False)):
        _check_at(f"[{index}]", item, other, position)
    if len(sent) != len(arrived):
        kept = "more" if len(arrived) > len(sent) else "fewer"
        way_out = _ALL_ITEMS if position.is_json else _MEND
        raise AlteredValueError(f"a `{_name(sent)}` would arrive with {kept} items{way_out}{_OPT_OUT}")


def _check_members(sent: Iterable[Any], arrived: Iterable[Any], position: _Position) -> None:
    left = {member: member for member in arrived}
    strays = []
    for member in sent:
        other = left.get(member, MISSING)
        if other is not MISSING and _is_unaltered(member, other, position):
            del left[member]
        else:
            strays.append(member)
    remaining = list(left)
    for member in strays:
        like = _one_like(member, remaining, position)
        remaining = [other for other in remaining if other is not like]
    if remaining:
        raise _altered(MISSING, remaining[0]).at(ITEM_STEP)


def _one_like(member: object, others: Collection[object], position: _Position) -> object:
    for other in others:
        if _is_unaltered(member, other, position):
            return other
    raise _altered(member, next(iter(others), MISSING)).at(ITEM_STEP)


def _is_unaltered(sent: object, arrived: object, position: _Position) -> bool:
    try:
        _check(sent, arrived, position)
    except AlteredValueError:
        return False
    return True


def _check_object(sent: Any, arrived: Any, position: _Position) -> None:
    """Check values of any other class by their attributes, or, if they have none, by their `__eq__`."""
    kind = type(sent)
    if kind is not type(arrived):
        raise _altered(sent, arrived)
    has_equality: bool = getattr(kind, "__eq__", None) is not object.__eq__
    attributes = _attributes(sent, with_slots=not has_equality)
    if attributes:
        others = _attributes(arrived, with_slots=not has_equality)
        is_same = attributes.keys() == others.keys() and all(
            _is_unaltered(value, others[name], position) for name, value in attributes.items()
        )
    else:
        is_same = _is_equal(sent, arrived) if has_equality else position.is_private
    _demand(is_same, sent, arrived)


def _attributes(value: object, *, with_slots: bool) -> dict[str, Any]:
    kind = type(value)
    attributes = {
        name: item
        for name, item in getattr(value, "__dict__", {}).items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    }
    if with_slots:
        for base in kind.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in {"__dict__", "__weakref__"}:
                    attributes[name] = getattr(value, name, MISSING)
    return attributes


def _is_equal(sent: Any, arrived: Any) -> bool:
    try:
        return bool(sent == arrived)
    except Exception:  # noqa: BLE001 - another library's __eq__
        return False


def _check_at(step: str, sent: object, arrived: object, position: _Position) -> None:
    try:
        _check(sent, arrived, position)
    except AlteredValueError as error:
        raise error.at(step) from None


def _demand(is_same: bool, sent: object, arrived: object) -> None:  # noqa: FBT001 - the demanded condition
    if not is_same:
        raise _altered(sent, arrived)


def _altered(sent: object, arrived: object) -> AlteredValueError:
    if sent is MISSING:
        return AlteredValueError(f"a `{_name(arrived)}` would arrive that was not sent{_MEND}{_OPT_OUT}")
    if arrived is MISSING:
        return AlteredValueError(f"a `{_name(sent)}` would be lost{_MEND}{_OPT_OUT}")
    return AlteredValueError(
        f"a `{_name(sent)}` would arrive as {_article(sent, arrived)}{_way_out(sent, arrived)}{_OPT_OUT}"
    )


def _article(sent: object, arrived: object) -> str:
    if type(sent) is type(arrived):
        return f"another `{_name(arrived)}`"
    rest = ", without the rest" if isinstance(sent, class_of(arrived)) and fields_of(sent) is not None else ""
    return f"a `{_name(arrived)}`{rest}"


def _way_out(sent: object, arrived: object) -> str:
    if hasattr(sent, "get_secret_value"):
        return _NOT_KEPT
    if isinstance(sent, int) and isinstance(arrived, float):
        return _TOO_LARGE
    if is_model(type(sent)) and is_model(type(arrived)) and not isinstance(sent, class_of(arrived)):
        return _ALIKE.format(_name(sent))
    if type(sent) is not type(arrived):
        return _ANNOTATE.format(_name(sent))
    if type(sent) is time and sent.tzinfo is not None:
        return _ZONE_OF_TIME
    return _ODD_OFFSET if type(sent) is datetime and _has_odd_offset(sent) else _MEND


def _has_odd_offset(moment: datetime) -> bool:
    offset = moment.utcoffset()
    return offset is not None and offset % timedelta(minutes=1) != timedelta(0)


def _name(value: object) -> str:
    return type(value).__qualname__
