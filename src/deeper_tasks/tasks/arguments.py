"""A signature: turns the arguments of a task's function into the JSON document that a job carries, and back."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from deeper_tasks.domain.job import Json
from deeper_tasks.domain.nesting import MAX_NESTING, nests_too_deep, too_deep
from deeper_tasks.errors import InvalidArgumentsError
from deeper_tasks.tasks.annotations import Codec, annotations_of, codec_for
from deeper_tasks.tasks.foreign_names import EQUIVALENT_OPTIONS
from deeper_tasks.tasks.json_values import PlacedError, encode_json
from deeper_tasks.tasks.options import EnqueueOptions
from deeper_tasks.tasks.refusals import reason_of

_OWN_NESTING = 2
"""The levels of nesting that the document adds around each argument."""
_DECODER = msgspec.json.Decoder(tuple[list[Any], dict[str, Any]])
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NOT_JSON = (TypeError, ValueError, RecursionError, NotImplementedError, msgspec.MsgspecError)

T = TypeVar("T")


class UnfitArgumentsError(InvalidArgumentsError):
    """The error of stored arguments that do not fit the function here; during a deploy, other code may fit them."""


class _Once(Generic[T]):
    """
    A property that is computed at its first use; two threads at once may compute it twice.

    The `cached_property` of Python 3.11 takes a lock, which may be held forever in a forked child.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__

    def __get__(self, owner: object, _: type[object]) -> T:
        value = owner.__dict__[self._name] = self._compute(owner)
        return value


class Signature:
    """
    Checks and encodes the arguments of a function's calls, and decodes them for its runs.

    A document is `[[positional …], {named …}]`. Equal calls, such as `f(1, b=2)` and `f(1, 2)`, give the same text;
    defaults are not filled in.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._name = getattr(function, "__qualname__", repr(function))
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        positional = [each for each in parameters if each.kind in _BY_POSITION]
        takes_any = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
        needs_named = any(each.kind is inspect.Parameter.KEYWORD_ONLY and _is_required(each) for each in parameters)
        self._fewest = sys.maxsize if needs_named else sum(map(_is_required, positional))
        self._most = sys.maxsize if takes_any else len(positional)

    def encode(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, max_bytes: int, are_compared: bool = True
    ) -> Json:
        """
        Return the document of a call.

        Validators of models run once, on the values that the document gives back. With `are_compared`, these values
        are compared with the passed ones by the rules of `tasks.comparison`.

        Raises:
            InvalidArgumentsError: the arguments do not fit the function or its annotations, are not JSON, would arrive
                as other values, or make a document of more than `max_bytes`.
        """
        if not isinstance(args, list | tuple):
            args = self._listed(args)
        if kwargs or not self._fewest <= len(args) <= self._most:
            args, kwargs = self._bound(args, kwargs)
        dumps = self._dumps if are_compared else self._uncompared_dumps
        document = self._text(*self._converted(dumps, args, kwargs))
        if len(document) > max_bytes:
            message = (
                f"the arguments of {self._name} take {len(document)} bytes as JSON, more than {max_bytes}; "
                "pass a reference, such as a key or a path, instead of the data"
            )
            raise InvalidArgumentsError(message)
        if nests_too_deep(document, most=MAX_NESTING + _OWN_NESTING):
            message = f"the arguments of {self._name} are {too_deep()}; pass a reference, or a flat form of the data"
            raise InvalidArgumentsError(message)
        return document.decode()

    def _listed(self, args: object) -> list[Any]:
        if isinstance(args, Sequence) and not isinstance(args, str | bytes):
            return list(args)
        raise InvalidArgumentsError(f"{self._mistyped('arguments', args)}; give a list of arguments")

    def _mistyped(self, noun: str, value: object) -> str:
        return f"the {noun} of {self._name} cannot be a `{type(value).__qualname__}`"

    def decode(self, document: Json) -> tuple[list[Any], dict[str, Any]]:
        """
        Return the positional and the named arguments of a document.

        Raises:
            UnfitArgumentsError: the arguments do not fit the present function or its annotations.
            InvalidArgumentsError: the text is not a document of arguments.
        """
        try:
            args, kwargs = _DECODER.decode(document)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            message = f"the stored arguments of {self._name} cannot be read: {reason_of(error)}"
            raise InvalidArgumentsError(message) from error
        try:
            if kwargs or not self._fewest <= len(args) <= self._most:
                self._bound(args, kwargs, is_stored=True)
            return self._converted(self._loads, args, kwargs)
        except InvalidArgumentsError as error:
            raise UnfitArgumentsError(str(error)) from None

    def by_parameter(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the arguments of a call, or of a part of one, by parameter and as JSON values.

        Raises:
            InvalidArgumentsError: the arguments do not fit the function or its annotations, or are not JSON.
        """
        try:
            bound = self._signature.bind_partial(*args, **kwargs)
        except TypeError as error:
            message = f"the arguments do not fit {self._name}{self._signature}: {error}"
            raise InvalidArgumentsError(message) from error
        return self._named(self._text(*self._converted(self._uncompared_dumps, bound.args, bound.kwargs)))

    def stored_by_parameter(self, document: Json) -> dict[str, Any] | None:
        """Return the arguments of a document by parameter; None if they do not fit the present function."""
        try:
            return self._named(document)
        except (TypeError, msgspec.MsgspecError):
            return None

    def _named(self, document: bytes | Json) -> dict[str, Any]:
        args, kwargs = _DECODER.decode(document)
        # `bind_partial` makes a tuple of `*args`, which is a list in JSON.
        arguments: dict[str, Any] = msgspec.to_builtins(self._signature.bind_partial(*args, **kwargs).arguments)
        return arguments

    @_Once
    def _codecs(self) -> dict[str, Codec]:
        """
        The codec of each parameter, made at the first use.

        While a module is being imported, its annotations may name classes that are defined further down.
        """
        annotations = annotations_of(self._function, self._signature)
        return {name: codec_for(annotation) for name, annotation in annotations.items()}

    @_Once
    def _dumps(self) -> _Conversions:
        return _conversions(self._signature, {name: codec.dump for name, codec in self._codecs.items()})

    @_Once
    def _uncompared_dumps(self) -> _Conversions:
        return _conversions(self._signature, {name: codec.dump_uncompared for name, codec in self._codecs.items()})

    @_Once
    def _loads(self) -> _Conversions:
        return _conversions(self._signature, {name: codec.load for name, codec in self._codecs.items()})

    def _bound(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, is_stored: bool = False
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        if not isinstance(kwargs, Mapping):
            raise InvalidArgumentsError(f"{self._mistyped('keyword arguments', kwargs)}; give a dict by name")
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            hint = "" if is_stored else self._hint(kwargs)
            message = f"the arguments do not fit {self._name}{self._signature}: {error}{hint}"
            raise InvalidArgumentsError(message) from error
        return bound.args, bound.kwargs

    def _hint(self, kwargs: Mapping[str, Any]) -> str:
        """Return the way out if an option of this or another library was given as an argument of the function."""
        call = self._name.rpartition(".")[2]
        for name in kwargs:
            if name in self._signature.parameters:
                continue
            if name in EnqueueOptions.__annotations__:
                return f"; {name!r} is an option; write {call}.with_options({name}=…).enqueue(…)"
            if name in EQUIVALENT_OPTIONS:
                return (
                    f"; for {name!r} {EQUIVALENT_OPTIONS[name]}, and give options by {call}.with_options(…).enqueue(…)"
                )
            if name in {"args", "kwargs"}:
                return f"; an enqueue takes the function's own arguments, as in {call}.enqueue(42)"
        return ""

    def _converted(
        self, conversions: _Conversions, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        try:
            converts = conversions.positional
            if len(args) != len(converts):
                converts = conversions.first(len(args))
            # Both have the same length. `strict=True` would add a fifth to the time of reading arguments.
            for convert, value in zip(converts, args):  # noqa: B905
                positional.append(convert(value))
        except Exception as error:  # noqa: BLE001 - a validator's, for example
            raise self._unfit(conversions.name_of(len(positional)), error) from None
        if kwargs:
            for name, value in kwargs.items():
                try:
                    named[name] = conversions.named(name)(value)
                except Exception as error:  # noqa: BLE001 - a validator's, for example
                    raise self._unfit(repr(name), error) from None
        return positional, named

    def _text(self, positional: list[Any], named: dict[str, Any]) -> bytes:
        try:
            return encode_json((positional, named))
        except _NOT_JSON as error:
            message = f"the arguments of {self._name} are not JSON: {reason_of(error)}"
            raise InvalidArgumentsError(message) from None

    def _unfit(self, parameter: str, error: Exception) -> InvalidArgumentsError:
        place = error.path if isinstance(error, PlacedError) else ""
        return InvalidArgumentsError(f"argument {parameter}{place} of {self._name}: {reason_of(error)}")


class _Conversions(Struct, frozen=True):
    """The conversions of a signature in one direction, by the position or the name of an argument."""

    names: tuple[str, ...]
    positional: tuple[Callable[[Any], Any], ...]
    further: Callable[[Any], Any] | None
    by_name: dict[str, Callable[[Any], Any]]
    further_named: Callable[[Any], Any] | None

    def first(self, count: int) -> tuple[Callable[[Any], Any], ...]:
        """Return the conversions of the first `count` positional arguments."""
        missing = count - len(self.positional)
        if missing == 0:
            return self.positional
        if missing < 0 or self.further is None:
            return self.positional[:count]
        return self.positional + (self.further,) * missing

    def named(self, name: str) -> Callable[[Any], Any]:
        """Return the conversion of a named argument."""
        conversion = self.by_name.get(name, self.further_named)
        assert conversion is not None
        return conversion

    def name_of(self, position: int) -> str:
        """Return the name for messages of the argument at a position, counted from 0."""
        return repr(self.names[position]) if position < len(self.names) else f"number {position + 1}"


def _conversions(signature: inspect.Signature, each: Mapping[str, Callable[[Any], Any]]) -> _Conversions:
    by_kind: dict[Any, list[str]] = {}
    for name, parameter in signature.parameters.items():
        by_kind.setdefault(parameter.kind, []).append(name)
    positional = [name for kind in _BY_POSITION for name in by_kind.get(kind, ())]
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    rest, named_rest = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return _Conversions(
        names=tuple(positional),
        positional=tuple(each[name] for name in positional),
        further=next((each[name] for name in by_kind.get(rest, ())), None),
        by_name={name: each[name] for kind in by_keyword for name in by_kind.get(kind, ())},
        further_named=next((each[name] for name in by_kind.get(named_rest, ())), None),
    )


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty
