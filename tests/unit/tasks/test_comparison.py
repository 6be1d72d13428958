"""Arguments that would arrive as others are refused at the enqueue, with place and types, and never with a value."""

from __future__ import annotations

import enum
import ipaddress
import pathlib
import re
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeper_tasks.errors import InvalidArgumentsError
from deeper_tasks.tasks.arguments import Signature

T = TypeVar("T")
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SOME_ID = uuid.UUID("0190a4b2-7c3d-7e5f-8a9b-0c1d2e3f4a5b")
NAIVE = NOW.replace(tzinfo=None)


def signature_for(annotation):
    def takes(it): ...

    takes.__annotations__["it"] = annotation
    return Signature(takes)


def arrived(annotation, value, *, are_compared=True):
    """Return what the handler gets for a value."""
    signature = signature_for(annotation)
    document = signature.encode((value,), {}, max_bytes=10**6, are_compared=are_compared)
    (back,), _ = signature.decode(document)
    return back


def refusal(annotation, value):
    """Return the message with which a value is refused."""
    with pytest.raises(InvalidArgumentsError) as caught:
        arrived(annotation, value)
    assert caught.value.__cause__ is None
    return str(caught.value)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


class Share(float):
    pass


# Of each library: a record with one field that can hold anything.


@dataclass
class Box:
    it: Any = None


@dataclass(frozen=True, slots=True)
class FrozenBox:
    it: Any = None


class StructBox(msgspec.Struct, omit_defaults=True, rename="camel", tag=True):
    it: Any = None


class RowBox(msgspec.Struct, array_like=True):
    it: Any = None


@attrs.define
class AttrsBox:
    it: Any = None


class ModelBox(pydantic.BaseModel):
    it: Any = None


class TypedModelBox(pydantic.BaseModel):
    it: datetime | bytes | Decimal | Colour | list[Box] | Any
    more: Annotated[Any, pydantic.Field(exclude=True)] = None


class SetBox(pydantic.BaseModel):
    it: frozenset[FrozenBox]


class RootBox(pydantic.RootModel[Any]):
    pass


class TupleBox(NamedTuple):
    it: Any = None


@pydantic.dataclasses.dataclass
class ModelDataclassBox:
    it: Any = None


class DictBox(TypedDict):
    it: Any


BOXES = [
    Box,
    FrozenBox,
    StructBox,
    RowBox,
    AttrsBox,
    lambda it: ModelBox(it=it),
    RootBox,
    TupleBox,
    ModelDataclassBox,
    lambda it: DictBox(it=it),
    lambda it: (it,),
    lambda it: [Box([it])],
    lambda it: {"key": Box({"key": it})},
    lambda it: Box([0, it]),
    lambda it: ModelBox(it={"key": [it]}),
]


def box(make, value):
    boxed = make(value)
    annotations = (
        {dict: DictBox if set(boxed) == {"it"} else dict[str, Box], list: list[Box]} if type(boxed) is dict else {}
    )
    annotation = annotations.get(type(boxed)) or {list: list[Box], tuple: tuple}.get(type(boxed), type(boxed))
    return annotation, boxed


class TestAnyInside:
    @pytest.mark.parametrize("make", BOXES)
    @pytest.mark.parametrize("value", [NOW, NOW.date(), time(1), timedelta(1), SOME_ID, Decimal("1.5"), b"secret"])
    def test_a_type_that_json_has_not_is_refused_with_its_place_and_both_types(self, make, value):
        message = refusal(*box(make, value))
        kind = type(value).__name__
        assert f"a `{kind}` would arrive as a `str`; annotate its place with `{kind}`" in message
        assert message.startswith("argument 'it'")
        assert "secret" not in message

    @pytest.mark.parametrize("make", BOXES)
    def test_json_values_pass(self, make):
        annotation, boxed = box(make, {"a": [1, 2.5, None, True, "x", {"b": -0.0}]})
        assert arrived(annotation, boxed) == boxed

    @pytest.mark.parametrize("make", BOXES)
    @pytest.mark.parametrize("value", [{1: 2}, {NOW.date(): 1}, {1: 2, "1": 3}, {True: 1}])
    def test_keys_that_are_no_strings_are_refused(self, make, value):
        message = refusal(*box(make, value))
        assert re.search(r"arrive as a `str`|a key (must be a string|cannot be a bool)|would be lost", message)

    @pytest.mark.parametrize("make", BOXES)
    def test_a_set_is_refused(self, make):
        message = refusal(*box(make, {1}))
        assert "a `set` would arrive as a `list`; annotate its place with `set`" in message

    def test_the_place_is_named(self):
        message = refusal(Box, Box({"rows": [0, Box(it=(1, {"when": NOW}))]}))
        assert message.startswith("argument 'it'.it['rows'][1] of"), "a record inside is itself not restored"
        message = refusal(ModelBox, ModelBox(it={"rows": [0, {"when": NOW}]}))
        assert message.startswith("argument 'it'.it['rows'][1]['when'] of")

    def test_long_keys_and_keys_of_other_types_are_not_shown(self):
        assert refusal(Box, Box({"s" * 101: NOW})).startswith("argument 'it'.it[<str>] of")
        assert refusal(Box, Box({date(2026, 1, 1): 1})).startswith("argument 'it'.it[<date>] of")

    @pytest.mark.parametrize("annotation", [tuple, set, frozenset, Box, dict, list])
    def test_values_in_bare_containers_are_refused(self, annotation):
        make = {dict: lambda it: {"a": it}}.get(annotation, lambda it: annotation([it]))
        assert "datetime" in refusal(annotation, make(NOW))

    def test_a_value_that_cannot_be_written_is_named_with_its_place(self):
        message = refusal(Box, Box({"rows": [pydantic.SecretStr("secret")]}))
        assert message.startswith("argument 'it'.it['rows'][0] of")
        assert "values of type SecretStr are not JSON" in message
        assert "secret" not in message


class TestModels:
    def test_a_secret_is_refused(self):
        class Login(pydantic.BaseModel):
            name: str
            password: pydantic.SecretStr
            token: pydantic.SecretBytes = pydantic.SecretBytes(b"")

        message = refusal(Login, Login(name="ann", password="hunter2"))
        assert message.startswith("argument 'it'.password of")
        assert "a `SecretStr` would arrive as another `SecretStr`; a secret is not written to JSON" in message
        assert "hunter2" not in message
        login = Login(name="ann", password="", token=b"hunter2")
        assert refusal(list[Login], [login]).startswith("argument 'it'[0].token of")

    def test_a_secret_that_is_written_on_purpose_passes(self):
        class Login(pydantic.BaseModel):
            password: pydantic.SecretStr

            @pydantic.field_serializer("password", when_used="json")
            def _shown(self, value):
                return value.get_secret_value()

        assert arrived(Login, Login(password="x")).password.get_secret_value() == "x"

    def test_an_excluded_field_is_refused_unless_it_has_its_default(self):
        class Order(pydantic.BaseModel):
            number: int
            note: str = pydantic.Field("", exclude=True)

        assert arrived(Order, Order(number=1)) == Order(number=1)
        message = refusal(Order, Order(number=1, note="hidden"))
        assert message.startswith("argument 'it'.note of")
        assert "a `str` would arrive as another `str`; its class does not read back what it writes" in message
        assert "hidden" not in message

    def test_an_excluded_field_without_a_default_says_that_the_model_wrote_it_so(self):
        class Order(pydantic.BaseModel):
            note: str = pydantic.Field(exclude=True)

        message = refusal(Order, Order(note="hidden"))
        assert "note: Field required" in message
        assert "the model itself has written it so: check its excluded fields" in message

    def test_a_serialisation_alias_that_is_not_read_is_refused(self):
        class Order(pydantic.BaseModel):
            number: int = pydantic.Field(0, serialization_alias="orderNumber")

        assert refusal(Order, Order(number=7)).startswith("argument 'it'.number of")

    @pytest.mark.parametrize("by_name", [True, False])
    def test_aliases_that_are_read_and_written_alike_pass(self, by_name):
        class Order(pydantic.BaseModel, populate_by_name=by_name):
            number: int = pydantic.Field(alias="orderNumber")
            price: int = pydantic.Field(
                validation_alias=pydantic.AliasChoices("p", "price"), serialization_alias="price"
            )

        order = Order(orderNumber=7, p=3)
        assert arrived(Order, order) == order

    def test_a_nested_subclass_is_not_cut_down(self):
        class Base(pydantic.BaseModel):
            number: int

        class Special(Base):
            more: str = "x"

        class Order(pydantic.BaseModel):
            items: list[Base]

        message = refusal(Order, Order(items=[Base(number=1), Special(number=2)]))
        assert message.startswith("argument 'it'.items[1] of")
        assert "Special` would arrive as a `" in message
        assert ", without the rest; annotate its place with `" in message

    def test_a_union_that_lands_in_another_member_is_refused(self):
        class Cat(pydantic.BaseModel):
            name: str

        class Dog(pydantic.BaseModel):
            name: str

        class Owner(pydantic.BaseModel):
            pet: Cat | Dog

        class Order(pydantic.BaseModel):
            when: str | date

        assert arrived(Owner, Owner(pet=Cat(name="a"))) == Owner(pet=Cat(name="a"))
        assert refusal(Owner, Owner(pet=Dog(name="a"))).startswith("argument 'it'.pet of")
        assert "a `date` would arrive as a `str`" in refusal(Order, Order(when=NOW.date()))

    def test_a_union_with_a_tag_passes(self):
        class Cat(pydantic.BaseModel):
            kind: Literal["cat"] = "cat"

        class Dog(pydantic.BaseModel):
            kind: Literal["dog"] = "dog"

        class Owner(pydantic.BaseModel):
            pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]

        Owner.model_rebuild(_types_namespace=locals())
        assert arrived(Owner, Owner(pet=Dog())) == Owner(pet=Dog())
        assert "hidden" not in refusal(Owner, {"pet": {"kind": "hidden"}})

    def test_generic_models_and_root_models_pass(self):
        class Page(pydantic.BaseModel, Generic[T]):
            rows: list[T]

        class Order(pydantic.BaseModel):
            page: Page[int]
            moments: pydantic.RootModel[dict[str, datetime]]

        Order.model_rebuild(_types_namespace=locals() | {"Page": Page})
        order = Order(page=Page(rows=[1]), moments={"a": NOW})
        assert arrived(Order, order) == order
        assert arrived(Page[int], Page(rows=[1])) == Page[int](rows=[1])
        assert refusal(Page[str], Page[Any](rows=[NOW])).startswith("argument 'it'.rows[0] of")

    def test_further_fields_are_compared(self):
        class Order(pydantic.BaseModel, extra="allow"):
            number: int

        assert arrived(Order, Order(number=1, more=[2])) == Order(number=1, more=[2])
        assert refusal(Order, Order(number=1, more=[NOW])).startswith("argument 'it'.more[0] of")

    def test_a_private_attribute_that_would_be_lost_is_refused(self):
        class Order(pydantic.BaseModel):
            number: int
            _double: int = pydantic.PrivateAttr()
            _seen: int = 0
            _lock: Any = pydantic.PrivateAttr(default_factory=threading.Lock)

            def model_post_init(self, _context):
                self._double = 2 * self.number

            @pydantic.computed_field
            @cached_property
            def triple(self) -> int:
                return 3 * self.number

        order = Order(number=1)
        assert order.triple == 3
        assert arrived(Order, order)._double == 2
        order._seen = 7
        assert refusal(Order, order).startswith("argument 'it'._seen of")

    def test_an_object_of_which_nothing_can_be_seen_is_refused(self):
        class Stream(pydantic.BaseModel):
            numbers: Iterable[int]

        class Order(pydantic.BaseModel):
            tool: Any

            @pydantic.field_serializer("tool")
            def _written(self, _):
                return "tool"

            @pydantic.field_validator("tool")
            @classmethod
            def _read(cls, _):
                return object()

        assert "a `ValidatorIterator` would arrive as another" in refusal(Stream, Stream(numbers=[1]))
        assert "a `object` would arrive as another `object`" in refusal(Order, Order(tool=1))

    @pytest.mark.parametrize("mode", ["before", "after", "wrap"])
    def test_a_validator_that_changes_the_value_a_second_time_is_refused(self, mode):
        class Order(pydantic.BaseModel):
            number: int

            if mode == "wrap":
                _doubled = pydantic.field_validator("number", mode="wrap")(lambda value, _: 2 * value)
            else:
                _doubled = pydantic.field_validator("number", mode=mode)(lambda value: 2 * value)

        assert refusal(Order, Order(number=1)).startswith("argument 'it'.number of")
        assert arrived(Order, {"number": 1}).number == 2

    def test_validators_run_once_at_the_enqueue_and_once_at_the_run(self):
        runs = []

        class Line(pydantic.BaseModel):
            number: int

            @pydantic.model_validator(mode="after")
            def _counted(self):
                runs.append("line")
                return self

        class Order(pydantic.BaseModel):
            lines: list[Line]

            @pydantic.field_validator("lines", mode="before")
            @classmethod
            def _counted(cls, value):
                runs.append("order")
                return value

        Order.model_rebuild(_types_namespace=locals())
        order = Order(lines=[Line(number=1)])
        signature = signature_for(Order)
        for are_compared in (True, False):
            runs.clear()
            document = signature.encode((order,), {}, max_bytes=1000, are_compared=are_compared)
            assert sorted(runs) == ["line", "order"]
        runs.clear()
        signature.decode(document)
        assert sorted(runs) == ["line", "order"]

    def test_serializers_that_write_another_value_are_refused(self):
        class Cut(pydantic.BaseModel):
            text: str

            @pydantic.field_serializer("text")
            def _cut(self, value):
                return value[:3]

        class Flat(pydantic.BaseModel):
            number: int = 0

            @pydantic.model_serializer
            def _flat(self):
                return {}

        assert "a `str` would arrive as another `str`" in refusal(Cut, Cut(text="hidden"))
        assert refusal(Flat, Flat(number=1)).startswith("argument 'it'.number of")

    def test_words_of_a_serializer_that_raises_are_not_shown(self):
        class Order(pydantic.BaseModel):
            text: str

            @pydantic.field_serializer("text")
            def _broken(self, value):
                raise ValueError(value)

        message = refusal(Order, Order(text="hidden"))
        assert "cannot be written to JSON: Error calling function `_broken`: ValueError" in message
        assert "hidden" not in message

    def test_a_field_of_another_type_than_annotated_is_refused_without_a_warning(self):
        class Order(pydantic.BaseModel):
            when: datetime
            note: str = ""

        assert "a `str` would arrive as a `datetime`" in refusal(
            Order, Order.model_construct(when=NOW.isoformat(), note="")
        )
        order = Order.model_construct(when=NOW)
        del order.note
        message = refusal(Order, order)
        assert message.startswith("argument 'it'.note of")
        assert "a `str` would arrive that was not sent" in message

    def test_values_with_classes_of_their_own_pass(self):
        class Place(pydantic.BaseModel):
            address: ipaddress.IPv4Address
            path: pathlib.Path
            url: pydantic.AnyUrl
            share: Fraction
            colours: dict[Colour, frozenset[Level]]
            data: bytes
            wait: timedelta
            many: set[datetime]

            model_config = {"ser_json_bytes": "base64", "val_json_bytes": "base64"}

        place = Place(
            address="127.0.0.1",
            path="/a",
            url="http://a.b",
            share=Fraction(1, 3),
            colours={Colour.RED: {3}},
            data=b"\xff",
            wait=timedelta(days=-3, microseconds=1),
            many={NOW, NOW.astimezone(BERLIN).replace(year=2025)},
        )
        assert arrived(Place, place) == place

    def test_an_equality_of_their_own_has_no_say(self):
        class Order(pydantic.BaseModel):
            number: int = pydantic.Field(0, exclude=True)

            def __eq__(self, _):
                return True

            __hash__ = None

        class Same(dict):
            def __eq__(self, _):
                return True

            __hash__ = None

        assert "would arrive as" in refusal(Order, Order(number=1))
        assert "would arrive as" in refusal(Box, Box(Same(a=NOW)))


class TestOtherRecords:
    def test_private_fields_of_attrs_are_refused_unless_they_have_their_default(self):
        @attrs.define
        class Account:
            number: int
            _limit: int = 5

        assert arrived(Account, Account(1)) == Account(1)
        assert refusal(Account, Account(1, limit=7)).startswith("argument 'it'._limit of")

    def test_converters_of_attrs_that_change_the_value_are_refused(self):
        @attrs.define
        class Account:
            number: int = attrs.field(converter=lambda number: number + 1)

            def __attrs_post_init__(self):
                self.number += 1

        assert refusal(Account, Account(1)).startswith("argument 'it'.number of")

    def test_fields_of_a_dataclass_that_its_constructor_does_not_take_are_kept(self):
        @dataclass(kw_only=True)
        class Order:
            number: int
            made_at: datetime = field(init=False, default_factory=datetime.now)
            double: int = field(init=False, default=0)

            def __post_init__(self):
                self.double = 2 * self.number

        order = Order(number=1)
        assert arrived(Order, order) == order
        order.double = 5
        assert refusal(Order, order).startswith("argument 'it'.double of")

    def test_a_dataclass_that_changes_its_values_when_made_is_refused(self):
        @dataclass
        class Order:
            number: int

            def __post_init__(self):
                self.number += 1

        assert refusal(Order, Order(1)).startswith("argument 'it'.number of")

    def test_subclasses_are_not_cut_down_inside_others(self):
        class Base(msgspec.Struct):
            number: int = 0

        class Special(Base):
            more: int = 0

        @dataclass
        class Order:
            rows: list[Any]
            one: Any

        Order.__annotations__ = {"rows": list[Base], "one": Base}
        message = refusal(Order, Order([Base(), Special()], Base()))
        assert message.startswith("argument 'it'.rows[1] of")

    def test_a_named_tuple_does_not_arrive_as_a_list(self):
        assert "a `TupleBox` would arrive as a `tuple`" in refusal(Box, Box(TupleBox(1)))
        assert "a `TupleBox` would arrive as a `tuple`" in refusal(tuple[tuple[int]], (TupleBox(1),))

    def test_keys_that_a_typed_dict_does_not_name_are_refused(self):
        message = refusal(DictBox, {"it": 1, "more": 2})
        assert message.startswith("argument 'it'['more'] of")
        assert "a `int` would be lost" in message or "the key, a `str`, would be lost" in message

    def test_wrong_members_of_enums_and_literals_are_refused_without_the_value(self):
        assert "hidden" not in refusal(Colour, "hidden")
        assert "hidden" not in refusal(Literal["a", "b"], "hidden")
        assert "hidden" not in refusal(StructBox, {"type": "hidden"})

    def test_a_list_that_comes_back_shorter_or_longer_is_refused(self):
        class Order(pydantic.BaseModel):
            rows: list[int]

            @pydantic.field_validator("rows")
            @classmethod
            def _cut(cls, rows):
                return rows[:1]

        assert "a `list` would arrive with fewer items" in refusal(Order, Order.model_construct(rows=[1, 2]))

    def test_members_of_a_set_are_compared_one_by_one(self):
        items = frozenset({FrozenBox(1), FrozenBox("a")})
        assert arrived(SetBox, SetBox(it=items)).it == items
        message = refusal(SetBox, SetBox(it={FrozenBox(1), FrozenBox(NOW)}))
        assert message.startswith("argument 'it'.it{…} of")
        assert "a `FrozenBox` would arrive as another `FrozenBox`" in message

    def test_a_set_whose_items_have_no_order_is_refused(self):
        message = refusal(set[FrozenBox], {FrozenBox(1), FrozenBox(2)})
        assert "the items of a set cannot be sorted, so it has no single JSON text; pass a list" in message

    def test_records_inside_themselves_are_refused(self):
        one = Box()
        one.it = one
        assert "nested too deeply, or contains itself" in refusal(Box, one)


class TestJsonForms:
    @pytest.mark.parametrize(
        ("annotation", "value"),
        [
            (datetime, "2026-01-02T03:04:05Z"),
            (dict[int, date], {"10": "2026-01-02", "9": "2026-01-03"}),
            (dict[uuid.UUID, Decimal], {str(SOME_ID): 1.5}),
            (set[uuid.UUID], [str(SOME_ID), str(SOME_ID)]),
            (tuple[date, Box], ["2026-01-02", {"it": 1}]),
            (StructBox, {"it": [1], "type": "StructBox"}),
            (RowBox, [1]),
            (AttrsBox, {}),
            (ModelBox, {"it": 1, "more": 2}),
            (RootBox | None, [1]),
            (Colour, "red"),
            (list[TupleBox], [[1]]),
        ],
    )
    def test_are_read_by_the_annotation(self, annotation, value):
        assert arrived(annotation, value) is not None

    @pytest.mark.parametrize(
        ("annotation", "value"),
        [
            (bytes, "YWJj"),
            (bytearray, "YWJj"),
            (list[bytes], ["YWJj"]),
            (dict[str, bytes | None], {"a": "YWJj"}),
            (set[bytes], ["YWJj"]),
            (dict[int, bytes], {"1": "YWJj"}),
            (tuple[bytes, ...], ("YWJj",)),
        ],
    )
    def test_text_is_never_decoded_to_bytes(self, annotation, value):
        message = refusal(annotation, value)
        assert "got `str`" in message or "`str` would arrive as a `bytes`" in message

    def test_text_in_a_field_of_bytes_is_refused(self):
        @dataclass
        class File:
            data: Any = b""

        File.__annotations__["data"] = bytes
        assert "a `str` would arrive as a `bytes`" in refusal(File, File("YWJj"))
        assert "expected `bytes`, got `str`" in refusal(File, {"data": "YWJj"})

    def test_keys_that_name_no_field_are_refused(self):
        message = refusal(list[Box], [{"it": 1, "mroe": 2}])
        assert message.startswith("argument 'it'[0]['mroe'] of")
        assert "a `Box` has no such field" in message


class TestEqualByAgreement:
    @pytest.mark.parametrize(
        ("annotation", "value"),
        [
            (Box, Box((1, (2,)))),
            (float | None, 3),
            (list[float], (1, 2)),
            (tuple[float, date], (1, NOW.date())),
            (datetime, NOW.astimezone(BERLIN)),
            (datetime, datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1)),
            (datetime, NAIVE.replace(fold=1)),
            (datetime, datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))),
            (datetime, datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))),
            (Box, Box(Colour.RED)),
            (Box, Box(Level.HIGH)),
            (Box, Box({Colour.RED: 1})),
            (Box, Box([Text("a"), Share(1.5), OrderedDict(a=defaultdict(int, b=1)), Counter("a")])),
            (list[Decimal], [Decimal("NaN"), Decimal("sNaN"), Decimal("1.50"), Decimal("-0")]),
        ],
    )
    def test_passes(self, annotation, value):
        arrived(annotation, value)

    @pytest.mark.parametrize(
        ("annotation", "value"),
        [
            (tuple[float], (2**53 + 1,)),
            (datetime, datetime(1800, 1, 1, tzinfo=timezone(timedelta(minutes=50, seconds=1)))),
            (time, time(1, tzinfo=BERLIN)),
            (bytes, bytearray(b"x")),
            (set[int], frozenset({1})),
        ],
    )
    def test_is_not_what_differs_in_value_or_type(self, annotation, value):
        assert "would arrive as" in refusal(annotation, value)

    def test_is_not_a_bool_and_a_number_nor_a_lost_sign(self):
        class Order(pydantic.BaseModel):
            number: float

            @pydantic.field_serializer("number")
            def _positive(self, value):
                return abs(value)

        assert "a `float` would arrive as another `float`" in refusal(Order, Order(number=-0.0))
        assert "a `bool` would arrive as a `float`" in refusal(Order, Order.model_construct(number=True))


def test_the_comparison_can_be_left_out():
    class Login(pydantic.BaseModel):
        password: pydantic.SecretStr

    back = arrived(Login, Login(password="hunter2"), are_compared=False)
    assert back.password.get_secret_value() == "**********"
    with pytest.raises(InvalidArgumentsError, match="expected `datetime`, got `int`"):
        arrived(datetime, 5, are_compared=False)


# The property: what is not refused arrives equal, by a comparison of its own.

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.binary(max_size=5)
    | st.datetimes(timezones=st.just(UTC) | st.timezones() | st.none())
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.sampled_from([*Colour, *Level, Text("t"), pydantic.SecretStr("s")])
)
keys = st.text("ab", max_size=2) | st.integers(0, 3) | st.dates() | st.sampled_from(Colour)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.builds(Box, inner)
        | st.builds(StructBox, inner)
        | st.builds(AttrsBox, inner)
        | st.builds(ModelBox, it=inner)
        | st.builds(TupleBox, inner)
        | st.frozensets(st.integers(0, 3) | st.text("ab", max_size=1), max_size=2)
    ),
    max_leaves=6,
)
records = (
    st.builds(Box, values)
    | st.builds(StructBox, values)
    | st.builds(AttrsBox, values)
    | st.builds(ModelBox, it=values)
    | st.builds(TupleBox, values)
    | st.builds(TypedModelBox, it=values, more=values)
    | values.map(lambda value: (value,))
)


def plain(value):  # noqa: C901, PLR0911 - one case a type
    """Return a value as text such that two texts are the same only for values that are equal by agreement."""
    match value:
        case enum.Enum():
            return plain(value.value)
        case bool() | None:
            return repr(value)
        case int() | float():
            return f"number {Fraction(value)} {str(float(value))[0] if not value and isinstance(value, float) else ''}"
        case str():
            return "text " + str.__repr__(str(value))
        case datetime(tzinfo=None):
            return f"wall {value.replace(fold=0).isoformat()}"
        case datetime():
            return f"instant {value.replace(tzinfo=None) - NAIVE - value.utcoffset()!r}"
        case Box() | StructBox() | AttrsBox() | ModelBox() | TupleBox():
            return f"{type(value).__name__}({plain(value.it)})"
        case TypedModelBox():
            return f"{type(value).__name__}({plain(value.it)}, {plain(value.more)})"
        case list() | tuple():
            return f"[{', '.join(map(plain, value))}]"
        case dict():
            return f"{{{', '.join(sorted(f'{plain(key)}: {plain(item)}' for key, item in value.items()))}}}"
        case set() | frozenset():
            return f"{type(value).__name__} {sorted(map(plain, value))}"
        case pydantic.SecretStr():
            return f"secret {value.get_secret_value()}"
    return f"{type(value).__name__} {value!r}"


@given(records)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_not_refused_arrives_equal(value):
    signature = signature_for(type(value))
    try:
        document = signature.encode((value,), {}, max_bytes=10**6)
    except InvalidArgumentsError:
        return
    (back,), _ = signature.decode(document)
    assert plain(back) == plain(value)


# Large integers where floats are annotated.

LARGE = 2**53 + 1


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (list[float], [1.5, LARGE], "[1]"),
        (dict[str, float], {"a": LARGE}, "['a']"),
        (list[list[float]], [[], [LARGE]], "[1][0]"),
        (Sequence[float], (LARGE,), "[0]"),
        (list[float] | None, [LARGE], "[0]"),
        (list[float | None], [LARGE], "[0]"),
        (Annotated[float, msgspec.Meta(ge=0)], LARGE, ""),
    ],
)
def test_an_integer_that_no_float_holds_is_refused(annotation, value, path):
    message = refusal(annotation, value)
    assert f"argument 'it'{path} of " in message
    assert "a `int` would arrive as a `float`" in message
    assert "a float holds integers exactly only up to 2**53" in message
    assert str(LARGE) not in message
    assert arrived(annotation, value, are_compared=False) is not None


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (list[float], [1, 2.5, 2**53, 2**60], [1.0, 2.5, 2.0**53, 2.0**60]),
        (list[float], (1, 2.5), [1.0, 2.5]),
        (dict[str, list[float]], {"a": (1,)}, {"a": [1.0]}),
        (list[float | int], [LARGE], [LARGE]),
        (float, LARGE, LARGE),
        (float | None, LARGE, LARGE),
    ],
)
def test_a_number_that_stays_the_same_passes_where_a_float_is_annotated(annotation, value, expected):
    assert arrived(annotation, value) == expected


# Refusals that no class of the user's is to blame for.


class Limits(TypedDict):
    low: int


class Range(NamedTuple):
    low: int
    high: int = 9


@pytest.mark.parametrize(
    ("annotation", "value", "way_out"),
    [
        (
            datetime,
            NOW.astimezone(timezone(timedelta(hours=5, seconds=7))),
            "JSON keeps an offset from UTC to the minute: pass it in UTC",
        ),
        (
            time,
            time(9, tzinfo=BERLIN),
            "a time in JSON keeps an offset from UTC, but no time zone: pass it without",
        ),
        (time, time(9, tzinfo=timezone(timedelta(seconds=7))), "a time in JSON keeps an offset"),
        (Limits, {"low": 1, "high": 2}, "the annotation has no such key: add it there, or leave it out"),
        (Range, (1,), "give all items, because defaults replace missing ones"),
        (list[datetime], [NOW.astimezone(timezone(timedelta(seconds=7)))], "pass it in UTC"),
    ],
)
def test_a_refusal_blames_no_class_where_the_type_is_not_the_users(annotation, value, way_out):
    message = refusal(annotation, value)
    assert way_out in message
    assert "class" not in message
