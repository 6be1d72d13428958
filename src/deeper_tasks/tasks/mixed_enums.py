"""Mixed enums: enums that msgspec cannot read, because their values are neither all texts nor all integers."""

from __future__ import annotations

import types
from collections.abc import Hashable
from enum import Enum
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from deeper_tasks.tasks.json_values import encode_json
from deeper_tasks.tasks.refusals import RefusedError

_MOST_CLASSES = 1024


class StandIn(type):
    """A class whose instances are the members of a mixed enum; msgspec passes it to its hooks for unknown classes."""

    kind: type[Enum]

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, cls.kind)


def with_stand_ins(annotation: Any) -> Any:
    """Return an annotation with a stand-in for each mixed enum that it names."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _stand_in(annotation) if _is_mixed(annotation) else annotation
    origin, parts = get_origin(annotation), get_args(annotation)
    changed = tuple(map(with_stand_ins, parts))
    if changed == parts:
        return annotation
    if origin is Annotated:
        return Annotated[changed]
    return reduce(or_, changed) if origin in {Union, types.UnionType} else origin[changed]


def member_of(stand_in: StandIn, value: object) -> Enum:
    """Return the member with a JSON value; raise RefusedError if there is none."""
    member = _members(stand_in.kind).get(encode_json(value))
    if member is None:
        message = f"Invalid enum value for `{stand_in.kind.__qualname__}`"
        raise RefusedError(message)
    return member


def _is_mixed(kind: type[Enum]) -> bool:
    values = [member.value for member in kind]
    return not any(all(type(value) is json for value in values) for json in (str, int)) and not issubclass(
        kind, str | int
    )


@lru_cache(_MOST_CLASSES)
def _stand_in(kind: Hashable) -> StandIn:
    assert isinstance(kind, type)
    return StandIn(kind.__name__, (), {"kind": kind})


@lru_cache(_MOST_CLASSES)
def _members(kind: type[Enum]) -> dict[bytes, Enum]:
    members = {}
    for member in kind:
        try:
            members[encode_json(msgspec.to_builtins(member.value, str_keys=True))] = member
        except (TypeError, ValueError):
            # A member whose value JSON cannot represent; writing it raises an error.
            continue
    return members
