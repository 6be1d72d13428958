"""The arguments of a task as a JSON document, and back."""

from __future__ import annotations

import enum
import types
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_tasks.errors import InvalidArgumentsError
from deeper_tasks.tasks.arguments import Signature

if TYPE_CHECKING:
    from somewhere import Session

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SOME_ID = uuid.UUID("0190a4b2-7c3d-7e5f-8a9b-0c1d2e3f4a5b")


def encode(function, *args, max_bytes=10_000, **kwargs):
    return Signature(function).encode(args, kwargs, max_bytes=max_bytes)


def returned(function, *args, **kwargs):
    """What the handler gets: positional and named arguments, after a way through the store."""
    signature = Signature(function)
    return signature.decode(signature.encode(args, kwargs, max_bytes=10_000))


@dataclass
class Item:
    number: int
    when: datetime


@dataclass
class SpecialItem(Item):
    more: str = ""


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Order(pydantic.BaseModel):
    number: int = pydantic.Field(alias="orderNumber")
    placed_at: datetime
    note: bytes = b""

    @pydantic.computed_field
    def double(self) -> int:
        return 2 * self.number


class StrictOrder(pydantic.BaseModel, strict=True):
    placed_at: datetime
    colour: Colour


class Colour(enum.Enum):
    RED = "red"


class Level(enum.StrEnum):
    HIGH = "high"


decorators = types.ModuleType("decorators_of_another_module")
"""A module in which the names of this one mean something else, or nothing."""

exec(
    """
import functools, inspect

Item = datetime = int

def plain(function):
    return functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs))

def without_annotations(function):
    @functools.wraps(function, assigned=("__name__", "__qualname__"))
    def wrapper(*args, **kwargs): ...
    return wrapper

def with_signature(function):
    wrapper = plain(function)
    wrapper.__signature__ = inspect.signature(function)
    return wrapper

def with_session(function):
    wrapper = plain(function)
    signature = inspect.signature(function)
    wrapper.__signature__ = signature.replace(parameters=list(signature.parameters.values())[:1])
    return wrapper
""",
    vars(decorators),
)


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Number(float):
    pass


def plain(a, b=1, *, c=2): ...


def typed(user_id: int, name: str = "", ratio: float = 1.0): ...


class TestDocument:
    def test_holds_positional_and_named_arguments(self):
        assert encode(plain, 1, [True, None], c="x") == '[[1,[true,null]],{"c":"x"}]'

    @pytest.mark.parametrize(("args", "kwargs"), [((1, 2), {}), ((1,), {"b": 2}), ((), {"b": 2, "a": 1})])
    def test_is_the_same_for_calls_that_mean_the_same(self, args, kwargs):
        assert encode(plain, *args, **kwargs) == "[[1,2],{}]"

    def test_leaves_defaults_out(self):
        assert encode(plain, 1) == "[[1],{}]"

    def test_sorts_keys_at_every_depth(self):
        one = encode(plain, {"b": {"d": 1, "c": 2}, "a": 3})
        other = encode(plain, {"a": 3, "b": {"c": 2, "d": 1}})
        assert one == other

    def test_keeps_text_of_all_languages(self):
        assert returned(plain, "żółć 漢字 \U0001f600 \x00") == (["żółć 漢字 \U0001f600 \x00"], {})

    def test_is_refused_above_its_limit_with_both_sizes(self):
        with pytest.raises(InvalidArgumentsError, match=r"take 109 bytes as JSON, more than 108"):
            encode(plain, "x" * 100, max_bytes=108)
        assert encode(plain, "x" * 100, max_bytes=109)

    def test_counts_bytes_not_characters(self):
        with pytest.raises(InvalidArgumentsError, match="take 209 bytes"):
            encode(plain, "ä" * 100, max_bytes=110)

    @pytest.mark.parametrize(
        ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"a": 2}), ((1,), {"nope": 2}), ((), {"b": 1})]
    )
    def test_is_refused_for_a_call_that_does_not_fit(self, args, kwargs):
        with pytest.raises(InvalidArgumentsError, match=r"do not fit plain\(a, b=1, \*, c=2\)"):
            encode(plain, *args, **kwargs)

    def test_is_refused_without_a_required_named_argument(self):
        def needs(a, *, key): ...

        with pytest.raises(InvalidArgumentsError, match=r"missing a required (keyword-only )?argument: 'key'"):
            encode(needs, 1)

    def test_holds_any_number_of_further_arguments(self):
        def takes(first, *rest: Point, **named: uuid.UUID): ...

        assert returned(takes, 1, Point(1, 2), Point(3), key=SOME_ID) == ([1, Point(1, 2), Point(3)], {"key": SOME_ID})

    def test_keeps_a_name_apart_from_a_positional_only_one(self):
        def takes(a: int, /, **named: str): ...

        assert returned(takes, 1, a="x") == ([1], {"a": "x"})


class TestJsonValues:
    json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
        max_leaves=20,
    )

    @given(json, json)
    def test_come_back_as_they_were(self, first, second):
        signature = Signature(plain)
        document = signature.encode((first,), {"c": second}, max_bytes=10**9)
        assert signature.decode(document) == ([first], {"c": second})

    @pytest.mark.parametrize("value", [2**63, 2**64 - 1, -(2**63), 2**64, -(2**70), 10**400])
    def test_integers_arrive_exactly_or_are_refused(self, value):
        try:
            assert returned(plain, value) == ([value], {})
        except InvalidArgumentsError as error:
            assert "64 bits" in str(error)  # noqa: PT017 - either is right, by msgspec's version

    def test_integers_of_too_many_digits_are_refused(self):
        with pytest.raises(InvalidArgumentsError, match="64 bits"):
            encode(plain, 10**5000)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [1, v], lambda v: {"a": v}])
    def test_numbers_that_are_none_are_refused(self, value, wrap):
        with pytest.raises(InvalidArgumentsError, match="NaN and infinities"):
            encode(plain, wrap(value))

    def test_a_number_that_is_none_is_refused_where_a_float_is_expected(self):
        with pytest.raises(InvalidArgumentsError, match=r"argument 'ratio' of typed: NaN"):
            encode(typed, 1, "", float("nan"))

    @pytest.mark.parametrize("value", ["\ud800", {"\ud800": 1}, ["a", "\udfff"]])
    def test_lone_surrogates_are_refused(self, value):
        with pytest.raises(InvalidArgumentsError, match="lone surrogate"):
            encode(plain, value)

    def test_keys_that_are_no_strings_are_refused(self):
        with pytest.raises(InvalidArgumentsError, match="a key must be a string, not int"):
            encode(plain, {1: 2})

    def test_subclasses_travel_as_what_they_stand_for(self):
        args, _ = returned(plain, [Text("a"), Number(2.5), Level.HIGH, OrderedDict(a=defaultdict(int))])
        assert args == [["a", 2.5, "high", {"a": {}}]]
        assert [type(value) for value in args[0][:3]] == [str, float, str]

    def test_a_tuple_arrives_as_a_list(self):
        assert returned(plain, (1, (2,))) == ([[1, [2]]], {})

    def test_a_value_inside_itself_is_refused(self):
        endless: list = []
        endless.append(endless)
        with pytest.raises(InvalidArgumentsError, match="contains itself"):
            encode(plain, endless)

    @pytest.mark.parametrize(
        "value", [NOW, SOME_ID, Decimal(1), b"x", {1}, Colour.RED, Item(1, NOW), Point(1), object()]
    )
    def test_other_types_are_refused_where_nothing_is_annotated(self, value):
        with pytest.raises(InvalidArgumentsError, match=r"type \w+ are not JSON; annotate the parameter"):
            encode(plain, value)

    def test_the_place_of_a_value_inside_others_is_named(self):
        with pytest.raises(
            InvalidArgumentsError, match=r"^argument 'a'\[1\]\['when'\] of plain: values of type datetime"
        ):
            encode(plain, [0, {"when": NOW}])


class TestAnnotations:
    @pytest.mark.parametrize("args", [("x",), (None,), (1.5,), (True,), (1, 2), (1, ""), (1, "", "2")])
    def test_values_are_checked_against_them(self, args):
        if args == (1, ""):
            assert encode(typed, *args)
        else:
            with pytest.raises(InvalidArgumentsError, match=r"^argument '\w+' of typed: expected `\w+`, got `\w+`$"):
                encode(typed, *args)

    def test_named_values_are_checked_too(self):
        def takes(*, number: int, **more: int): ...

        with pytest.raises(InvalidArgumentsError, match=r"argument 'number' of .*takes: expected `int`, got `str`"):
            encode(takes, number="x")
        with pytest.raises(InvalidArgumentsError, match=r"argument 'other' of .*takes: expected `int`, got `str`"):
            encode(takes, number=1, other="x")

    def test_a_message_never_holds_the_value(self):
        with pytest.raises(InvalidArgumentsError) as caught:
            encode(typed, "secret")
        assert "secret" not in str(caught.value)

    def test_an_int_passes_for_a_float(self):
        assert encode(typed, 1, "", 2) == '[[1,"",2],{}]'

    def test_subclasses_pass_for_what_they_stand_for(self):
        assert encode(typed, 1, Text("a"), Number(2.5)) == '[[1,"a",2.5],{}]'
        assert encode(typed, 1, Level.HIGH) == '[[1,"high"],{}]'

    def test_a_list_of_floats_takes_their_subclasses(self):
        def takes(numbers: list[float]): ...

        assert encode(takes, [Number(1.5), 2]) == "[[[1.5,2]],{}]"

    def test_a_uuid_does_not_pass_for_a_string(self):
        with pytest.raises(InvalidArgumentsError, match="expected `str`, got `uuid`"):
            encode(typed, 1, SOME_ID)

    def test_limits_in_them_are_kept(self):
        def takes(number: Annotated[int, msgspec.Meta(ge=0)], word: Literal["a", "b"] = "a"): ...

        assert encode(takes, 0, "b")
        with pytest.raises(InvalidArgumentsError, match="'number'"):
            encode(takes, -1)
        with pytest.raises(InvalidArgumentsError, match="'word'"):
            encode(takes, 1, "c")

    @pytest.mark.parametrize(
        ("annotation", "value"),
        [
            (datetime, NOW),
            (datetime, NOW.replace(tzinfo=None)),
            (date, NOW.date()),
            (time, time(1, 2, 3)),
            (timedelta, timedelta(days=-1, microseconds=1)),
            (uuid.UUID, SOME_ID),
            (Decimal, Decimal("1.50")),
            (bytes, b"\x00\xff"),
            (Colour, Colour.RED),
            (Level, Level.HIGH),
            (Item, Item(1, NOW)),
            (Point, Point(1, 2)),
            (Order, Order(orderNumber=1, placed_at=NOW, note=b"x")),
            (StrictOrder, StrictOrder(placed_at=NOW, colour=Colour.RED)),
            (list[Item], [Item(1, NOW)]),
            (list[Order], [Order(orderNumber=1, placed_at=NOW)]),
            (dict[str, Item], {"a": Item(1, NOW)}),
            (dict[int, date], {1: NOW.date()}),
            (dict[uuid.UUID, int], {SOME_ID: 1}),
            (Item | None, Item(1, NOW)),
            (Item | None, None),
            (Order | None, Order(orderNumber=1, placed_at=NOW)),
            (tuple[int, date], (1, NOW.date())),
            (tuple[int, ...], (1, 2)),
            (set[int], {3, 1, 2}),
            (frozenset[str], frozenset({"a"})),
            (list[dict[str, list[datetime]]], [{"a": [NOW]}]),
            (Any, {"a": 1}),
            (Sequence[int], [1, 2]),
            (dict[str, Any], {"a": [1]}),
            (int | str | None, "x"),
        ],
    )
    def test_values_of_annotated_types_are_restored(self, annotation, value):
        def takes(value): ...

        takes.__annotations__["value"] = annotation
        (back,), _ = returned(takes, value)
        assert back == value
        assert type(back) is type(value)

    def test_the_json_form_of_a_type_is_accepted(self):
        def takes(when: datetime, item: Item): ...

        args, _ = returned(takes, NOW.isoformat(), {"number": 1, "when": NOW.isoformat()})
        assert args == [NOW, Item(1, NOW)]

    def test_a_string_for_bytes_is_refused_rather_than_taken_for_base64(self):
        def takes(data: bytes): ...

        with pytest.raises(InvalidArgumentsError, match="expected `bytes`, got `str`"):
            encode(takes, "abcd")

    def test_a_subclass_that_would_lose_its_fields_is_refused(self):
        def takes(item: Item): ...

        with pytest.raises(InvalidArgumentsError, match="a `SpecialItem` would arrive as a `Item`"):
            encode(takes, SpecialItem(1, NOW, "more"))

    def test_wrong_fields_inside_are_named(self):
        def takes(items: list[Item]): ...

        with pytest.raises(
            InvalidArgumentsError, match=r"argument 'items' of .*takes: expected `int`, got `str` - at `\$\["
        ):
            encode(takes, [Item("x", NOW)])

    def test_a_number_inside_that_is_none_is_refused(self):
        @dataclass
        class Measure:
            value: float

        def takes(measure): ...

        takes.__annotations__["measure"] = Measure
        with pytest.raises(InvalidArgumentsError, match=r"argument 'measure'\['value'\] of .*takes: NaN"):
            encode(takes, Measure(float("nan")))

    def test_a_model_says_what_is_wrong_without_the_values(self):
        def takes(order: Order): ...

        with pytest.raises(InvalidArgumentsError, match="orderNumber: Input should be a valid integer") as caught:
            encode(takes, {"orderNumber": "secret", "placed_at": NOW.isoformat()})
        assert "secret" not in str(caught.value)

    def test_one_that_cannot_be_resolved_counts_as_none(self):
        def takes(session: Session, user_id: int): ...

        assert encode(takes, "x", 1)
        with pytest.raises(InvalidArgumentsError, match="'user_id'"):
            encode(takes, "x", "y")

    @pytest.mark.parametrize(
        "annotation", [str | datetime, str | uuid.UUID, Iterable[str], str | pytest.MonkeyPatch, object]
    )
    def test_one_that_cannot_be_read_from_json_lets_json_values_of_its_type_pass(self, annotation):
        def takes(value): ...

        takes.__annotations__["value"] = annotation
        assert returned(takes, "x") == (["x"], {})
        with pytest.raises(InvalidArgumentsError, match="the annotated type cannot be read from JSON"):
            encode(takes, NOW)

    def test_types_are_found_through_a_decorator_of_another_module(self):
        def takes(item: Item, session: Session, *, when: datetime | None = None): ...

        for decorate in (decorators.plain, decorators.without_annotations, decorators.with_signature):
            args, kwargs = returned(decorate(decorate(takes)), Item(1, NOW), "x", when=NOW)
            assert (args, kwargs) == ([Item(1, NOW), "x"], {"when": NOW})

    def test_a_signature_that_a_decorator_gives_counts(self):
        def takes(item: Item, session: Session): ...

        assert returned(decorators.with_session(takes), Item(1, NOW)) == ([Item(1, NOW)], {})
        with pytest.raises(InvalidArgumentsError, match="do not fit"):
            encode(decorators.with_session(takes), Item(1, NOW), "x")

    def test_a_class_further_down_in_the_module_is_known_at_the_first_use(self):
        def takes(later: Later): ...

        signature = Signature(takes)
        document = signature.encode((Later(1),), {}, max_bytes=100)
        assert signature.decode(document) == ([Later(1)], {})


class TestDecode:
    @pytest.mark.parametrize(
        "document",
        [
            "",
            "nope",
            "[]",
            "[[1]]",
            "[[1],{},3]",
            '{"a":1}',
            "[1,{}]",
            "[[NaN],{}]",
            "[" * 100_000,
            "\ud800",
            "[[1],[]]",
        ],
    )
    def test_refuses_what_is_no_document(self, document):
        with pytest.raises(InvalidArgumentsError, match="the stored arguments of typed cannot be read"):
            Signature(typed).decode(document)

    @pytest.mark.parametrize("document", ["[[],{}]", "[[1,2,3,4],{}]", '[[1],{"nope":1}]', '[[1],{"user_id":1}]'])
    def test_refuses_arguments_that_fit_no_longer(self, document):
        with pytest.raises(InvalidArgumentsError, match="do not fit"):
            Signature(typed).decode(document)

    @pytest.mark.parametrize("document", ['[["x"],{}]', '[[1],{"name":2}]'])
    def test_refuses_values_of_another_type(self, document):
        with pytest.raises(InvalidArgumentsError, match="expected"):
            Signature(typed).decode(document)

    def test_accepts_what_another_program_wrote(self):
        assert Signature(typed).decode('[ [], {"user_id" : 3} ]') == ([], {"user_id": 3})


@dataclass
class Later:
    number: int
