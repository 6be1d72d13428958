"""Annotations that msgspec alone cannot read: models to choose from, odd enums, texts, and what nothing reads."""

from __future__ import annotations

import enum
import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, NewType, Protocol, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest

from deeper_tasks.errors import InvalidArgumentsError
from deeper_tasks.tasks.arguments import Signature
from deeper_tasks.tasks.type_fit import fits


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    born: date | None = None


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    born: date | None = None


class Alike(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    born: date | None = None


@dataclass
class Home:
    pet: Cat | Dog
    number: int = 1


@dataclass
class Place:
    path: Path
    zone: ZoneInfo


class Odd(enum.Enum):
    TEXT = "text"
    NUMBER = 1
    SHARE = 1.5
    PAIR = (1, "a")
    NOTHING = None


class Shares(enum.Enum):
    HALF = 0.5


class OddText(enum.StrEnum):
    RED = "red"


class Text(str):
    __slots__ = ()


class Pair(NamedTuple):
    first: int
    second: deque[int]


class Keyed(TypedDict):
    first: deque[int]


class Shaped(Protocol):
    name: str


BORN = date(2020, 2, 3)
CAT, DOG = Cat(born=BORN), Dog(born=BORN)
CHOICE = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


def signature_for(annotation: Any) -> Signature:
    def takes(it): ...

    takes.__annotations__["it"] = annotation
    return Signature(takes)


def arrived(annotation: Any, value: Any) -> Any:
    signature = signature_for(annotation)
    (back,), _ = signature.decode(signature.encode((value,), {}, max_bytes=10_000))
    return back


def refusal(annotation: Any, value: Any) -> str:
    with pytest.raises(InvalidArgumentsError) as caught:
        arrived(annotation, value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Cat | Dog, DOG),
        (CHOICE, CAT),
        (Cat | Dog | None, None),
        (Cat | str, "tom"),
        (Cat | str, CAT),
        (list[Cat | Dog], [CAT, DOG]),
        (dict[str, list[CHOICE]], {"a": [DOG, CAT]}),
        (tuple[Cat | Dog, datetime | date], (CAT, BORN)),
        (Home, Home(DOG)),
        (Cat | Home, Home(CAT, number=2)),
        (Path, Path("a/b")),
        (Path | None, Path("a/b")),
        (list[PurePosixPath], [PurePosixPath("/a")]),
        (Place, Place(Path("a"), ZoneInfo("Europe/Berlin"))),
        (Fraction, Fraction(1, 3)),
        (dict[str, IPv4Address], {"a": IPv4Address("10.0.0.1")}),
        (IPv6Network, IPv6Network("fe80::/64")),
        *((Odd, member) for member in Odd),
        (Odd | None, Odd.PAIR),
        (list[Odd], list(Odd)),
        (dict[str, tuple[Odd, ...]], {"a": (Odd.NUMBER, Odd.TEXT)}),
        (Annotated[Shares, "doc"], Shares.HALF),
    ],
)
def test_what_pydantic_or_a_text_can_say_arrives_as_it_is(annotation, value):
    back = arrived(annotation, value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("annotation", "form", "value"),
    [
        (Cat | Dog, {"kind": "dog", "born": "2020-02-03"}, DOG),
        (list[CHOICE], [{"kind": "cat", "born": "2020-02-03"}], [CAT]),
        (Home, {"pet": {"kind": "dog", "born": "2020-02-03"}}, Home(DOG)),
        (Path, "a/b", Path("a/b")),
        (list[Odd], ["text", 1, 1.5, [1, "a"]], [Odd.TEXT, Odd.NUMBER, Odd.SHARE, Odd.PAIR]),
    ],
)
def test_their_json_forms_are_read(annotation, form, value):
    assert arrived(annotation, form) == value


@pytest.mark.parametrize(
    ("annotation", "value", "reason"),
    [
        (list[Cat | Dog], [5], "0.Cat: Input should be an object; 0.Dog: Input should be an object"),
        (CHOICE, {"kind": "hunter2"}, "The tag is none of the expected ones"),
        (Cat | Dog, {"kind": "dog", "born": "hunter2"}, "Dog.born: Input should be a valid date"),
        (
            Cat | Alike,
            Alike(),
            "a `Alike` would arrive as a `Cat`; its JSON form fits both: give the models a discriminator",
        ),
        (Cat | int, "5", "a `str` would arrive as a `int`"),
        (Path, 5, "expected `str`, got `int`"),
        (IPv4Address, "hunter2", "the text is not a valid `IPv4Address`"),
        (ZoneInfo, "hunter2", "the text is not a valid `ZoneInfo`"),
        (Fraction, "hunter2/0", "the text is not a valid `Fraction`"),
        (Odd, "hunter2", "Invalid enum value for `Odd`"),
        (Odd, True, "Invalid enum value for `Odd`"),
        (Odd, Shares.HALF, "Invalid enum value for `Odd`"),
        (Path, 1.5, "expected `str`, got `float`"),
        (Pair, [1, [2]], "a `deque` cannot be read from JSON - at `$[1]`"),
        (Keyed, {"first": [1]}, "a `deque` cannot be read from JSON - at `$.first`"),
    ],
)
def test_what_does_not_fit_them_is_refused_without_its_value(annotation, value, reason):
    message = refusal(annotation, value)
    assert reason in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str | date, 5),
        (str | date, {"a": 1}),
        (date | datetime, "2030-01-01"),
        (str | Path, 5),
        (Iterable[int], "x"),
        (list[pytest.MonkeyPatch], "x"),
        (list[pytest.MonkeyPatch], ["x"]),
        (dict[str, str | UUID], {"a": 5}),
        (deque[int], [1]),
        (dict[Odd, int], {"text": 1}),
        (dict[Path, int], {"a": 1}),
        (Literal["a"] | UUID, "b"),
        (OddText | date, "red"),
        (tuple[str | date, int], ["a", "b"]),
    ],
)
def test_a_value_that_is_plainly_not_of_a_type_that_cannot_be_read_is_refused_there_and_here(annotation, value):
    assert "the annotated type cannot be read from JSON" in refusal(annotation, value)
    with pytest.raises(InvalidArgumentsError, match="expected `"):
        signature_for(annotation).decode(json.dumps([[value], {}]))


@pytest.mark.parametrize("value", [date(2030, 1, 1), [time(9)], {1}])
def test_a_value_that_is_not_json_is_refused_with_a_way_out_that_is_true(value):
    message = refusal(str | date | list[Any] | set[int], value)
    assert "annotate a type that can be, or annotate `Any` and let the task make the value from JSON values" in message


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str | date, "x"),
        (str | UUID | None, None),
        (float | UUID | date, 5),
        (Iterable[int], [1]),
        (Iterable[str], "ab"),
        (Sequence[str | date], ["a"]),
        (tuple[str | date, ...], ["a"]),
        (Shaped, {"name": "x"}),
        (object, 5),
        (Text | date, "x"),
        (NewType("Name", str) | date, "x"),
        (time | timedelta | list[int], [1]),
        (Annotated[str | date, "doc"], "x"),
        (Literal["a", 1] | UUID, 1),
    ],
)
def test_a_json_value_that_may_be_of_a_type_that_cannot_be_read_passes(annotation, value):
    assert arrived(annotation, value) == value


def test_a_value_fits_nothing_of_a_fixed_tuple_of_another_length():
    assert not fits([1], tuple[int, int])
    assert fits([1, 2], tuple[int, int])
