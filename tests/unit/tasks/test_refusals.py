"""What the message about a refused argument tells: the place, the types and the error's class, never a value."""

from __future__ import annotations

import dataclasses
import enum
import json
import traceback
from typing import Any

import attrs
import msgspec
import pydantic
import pydantic_core
import pytest
from pydantic_core import PydanticCustomError

from deeper_tasks.errors import InvalidArgumentsError
from deeper_tasks.tasks.arguments import Signature

SECRET = "hunter2"


@dataclasses.dataclass
class Login:
    password: str

    def __post_init__(self):
        raise ValueError(f"{self.password} is weak")


@dataclasses.dataclass
class LoginWithLookup:
    password: str

    def __post_init__(self):
        raise KeyError(self.password)


class LoginOfMsgspec(msgspec.Struct):
    password: str

    def __post_init__(self):
        raise TypeError(f"{self.password} is weak")


class LoginWithErrorsOfMsgspec(msgspec.Struct):
    password: str

    def __post_init__(self):
        raise msgspec.ValidationError(f"{self.password} is weak")


@attrs.define
class LoginOfAttrs:
    password: str = attrs.field(validator=attrs.validators.in_(["x"]))


class Colour(enum.Enum):
    RED = "red"

    @classmethod
    def _missing_(cls, value):
        raise ValueError(f"{value} is no colour")


def model(error):
    """Return a model whose validator raises."""

    class LoginOfPydantic(pydantic.BaseModel):
        password: str

        @pydantic.field_validator("password")
        @classmethod
        def check(cls, value):
            raise error(value)

    return LoginOfPydantic


class Outer(pydantic.BaseModel):
    login: model(lambda value: ValueError(f"{value} is weak"))
    number: int


LOGIN = {"password": SECRET}
TWO_REASONS = (
    "login.password: a validator refused it (ValueError); "
    "number: Input should be a valid integer, unable to parse string as an integer"
)
CASES = [
    (Login, LOGIN, "a validator refused it (ValueError)"),
    (list[Login], [LOGIN], "a validator refused it (ValueError) - at `$[0]`"),
    (LoginWithLookup, LOGIN, "the code of its class raised KeyError"),
    (LoginOfMsgspec, LOGIN, "a validator refused it (TypeError)"),
    (LoginWithErrorsOfMsgspec, LOGIN, "the code of its class raised ValidationError"),
    (LoginOfAttrs, LOGIN, "a validator of the field `password` refused it (ValueError)"),
    (Colour, SECRET, "Invalid enum value"),
    (model(ValueError), LOGIN, "password: a validator refused it (ValueError)"),
    (model(AssertionError), LOGIN, "password: a validator refused it (AssertionError)"),
    (model(KeyError), LOGIN, "the code of its class raised KeyError"),
    (model(TypeError), LOGIN, "a validator refused it (TypeError)"),
    (
        model(lambda value: PydanticCustomError("weak", "{it} is weak", {"it": value})),
        LOGIN,
        "password: a validator refused it (weak)",
    ),
    (
        model(lambda value: PydanticCustomError("int_parsing", "{it} is weak", {"it": value})),
        LOGIN,
        "password: a validator refused it (int_parsing)",
    ),
    (
        Outer,
        {"login": LOGIN, "number": SECRET},
        TWO_REASONS,
    ),
]


def signature_for(annotation: Any) -> Signature:
    def takes(it): ...

    takes.__annotations__["it"] = annotation
    return Signature(takes)


def assert_is_discreet(error: Exception, reason: str) -> None:
    assert str(error).removeprefix(f"argument 'it' of {signature_for.__name__}.<locals>.takes: ") == reason
    assert SECRET not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(("annotation", "value", "reason"), CASES)
@pytest.mark.parametrize("are_compared", [True, False])
def test_an_enqueue_tells_the_class_of_a_validators_error_and_not_its_text(annotation, value, reason, are_compared):
    with pytest.raises(InvalidArgumentsError) as caught:
        signature_for(annotation).encode([value], {}, max_bytes=1000, are_compared=are_compared)
    assert_is_discreet(caught.value, reason)


@pytest.mark.parametrize(("annotation", "value", "reason"), CASES)
def test_a_worker_tells_the_class_of_a_validators_error_and_not_its_text(annotation, value, reason):
    with pytest.raises(InvalidArgumentsError) as caught:
        signature_for(annotation).decode(json.dumps([[value], {}]))
    assert_is_discreet(caught.value, reason)


def test_a_model_that_cannot_write_itself_is_refused_without_the_text_of_its_error():
    class Secretive(pydantic.BaseModel):
        password: str

        def model_dump(self, **options):
            raise ValueError(self.password)

    with pytest.raises(InvalidArgumentsError) as caught:
        signature_for(Secretive).encode([Secretive(password=SECRET)], {}, max_bytes=1000)
    reason = "cannot be written to JSON: the code of its class raised ValueError"
    assert str(caught.value).endswith(reason)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("error", [ValueError, KeyError, pydantic_core.PydanticSerializationError])
def test_a_serializer_that_raises_is_named_without_the_text_of_its_error(error):
    class Secretive(pydantic.BaseModel):
        password: str

        @pydantic.field_serializer("password")
        def write(self, value):
            raise error(value)

    value = Secretive(password=SECRET)
    for annotation, sent in ((Secretive, value), (Secretive | Outer, value), (list[Secretive | int], [value])):
        with pytest.raises(InvalidArgumentsError) as caught:
            signature_for(annotation).encode([sent], {}, max_bytes=1000)
        assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("arguments", [SECRET, {"password": SECRET}, {SECRET}, SECRET.encode()])
def test_arguments_that_are_no_list_are_refused_by_their_type(arguments):
    kind = type(arguments).__name__
    with pytest.raises(InvalidArgumentsError, match=f"cannot be a `{kind}`; give a list of arguments") as caught:
        signature_for(str).encode(arguments, {}, max_bytes=1000)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("arguments", [SECRET, [("it", SECRET)], {SECRET}])
def test_keyword_arguments_that_are_no_dict_are_refused_by_their_type(arguments):
    kind = type(arguments).__name__
    with pytest.raises(InvalidArgumentsError, match=f"keyword .* cannot be a `{kind}`; give a dict") as caught:
        signature_for(str).encode([], arguments, max_bytes=1000)
    assert SECRET not in str(caught.value)
