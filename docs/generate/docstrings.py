"""The docstrings: functions, classes and their members as Markdown."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import FunctionType
from typing import Any

import msgspec
from docs.generate.markdown import one_line

_WIDTH = 80
"""The longest line of parameters and return type; with the text around them it is as long as the formatter allows."""
_LISTS = {"Raises:", "Attributes:"}
_GROUP = re.compile(r"^    # (\w[\w ]*)$")
_METHOD = re.compile(r"^    (?:async )?def ([a-z]\w*)\(")


def function(thing: Callable[..., Any], *, name: str | None = None) -> str:
    """Return the signature and the docs of a function; for a function with overloads, all their signatures."""
    shown = typing.get_overloads(thing) or [thing]
    name = name or thing.__name__
    keyword = "async def" if inspect.iscoroutinefunction(thing) else "def"
    first = ["@contextmanager"] if inspect.isgeneratorfunction(inspect.unwrap(thing)) else []
    return f"{_code(first + [f'{keyword} {name}{_call(each)}: ...' for each in shown])}\n{text(thing)}"


def constructor(kind: type) -> str:
    """Return the signature of a class's constructor, and the docs of the class."""
    init = kind.__init__  # type: ignore[misc]
    return f"{_code([kind.__name__ + _call(init, with_answer=False)], 'text')}\n{text(kind)}"


def members(kind: type) -> Iterator[tuple[str, str, Any]]:
    """Yield the public members of a class in their order: the group that a comment names, the name, the member."""
    group, seen = "", set()
    for line in inspect.getsource(kind).splitlines():
        if found := _GROUP.match(line):
            group = found[1]
        if (found := _METHOD.match(line)) and found[1] not in seen:
            seen.add(found[1])
            yield group, found[1], vars(kind)[found[1]]


def member(thing: Any) -> str:
    """Return the docs of a method or a property."""
    if (kind := answer(thing)) is not None:
        return f"A property, `{kind}`. {text(thing)}"
    return function(thing.__func__ if isinstance(thing, classmethod) else thing)


def fields(kind: type) -> str:
    """Return the fields of a value, or the keys of a dict, with their types and defaults."""
    defaults = {
        field.name: f" = {literal(field.default)}"
        for field in (msgspec.structs.fields(kind) if issubclass(kind, msgspec.Struct) else ())
        if field.default is not msgspec.NODEFAULT
    }
    given = {name: _type(getattr(each, "__forward_arg__", each)) for name, each in kind.__annotations__.items()}
    lines = [f"    {name}: {each}{defaults.get(name, '')}" for name, each in given.items()]
    return _code([f"class {kind.__name__}:", *lines])


def answer(thing: Any) -> str | None:
    """Return the type of a property; None for any other member."""
    getter = getattr(thing, "fget", None) or getattr(thing, "func", None)
    return None if getter is None else str(inspect.signature(getter).return_annotation)


def text(thing: object) -> str:
    """Return a docstring as Markdown, with `Raises` and `Attributes` as lists."""
    return "\n".join(_paragraph(part) for part in (inspect.getdoc(thing) or "").split("\n\n"))


def _paragraph(part: str) -> str:
    head, _, body = part.partition("\n")
    if head == "Returns:":
        return one_line(part) + "\n"
    if head not in _LISTS:
        return part + "\n"
    items = re.split(r"\n(?=\S)", inspect.cleandoc(body))
    return f"{head}\n\n" + "".join(f"- {_item(one_line(item))}\n" for item in items)


def _item(item: str) -> str:
    names, colon, meaning = item.partition(": ")
    if not colon or not re.fullmatch(r"[\w, ]+", names):
        return item
    return f"{', '.join(f'`{name}`' for name in names.split(', '))}: {meaning}"


def _call(thing: Callable[..., Any], *, with_answer: bool = True) -> str:
    signature = inspect.signature(thing)
    shown = [each for each in signature.parameters.values() if each.name not in {"self", "cls"}]
    answer = signature.return_annotation
    end = "" if not with_answer or answer is inspect.Signature.empty else f" -> {answer}"
    parts = list(_parameters(shown))
    short = f"({', '.join(parts)}){end}"
    if len(short) <= _WIDTH:
        return short
    return "(\n" + "".join(f"    {part},\n" for part in parts) + f"){end}"


def _parameters(parameters: list[inspect.Parameter]) -> Iterator[str]:
    before: inspect.Parameter | None = None
    for parameter in parameters:
        if before is not None and before.kind is before.POSITIONAL_ONLY and parameter.kind is not before.kind:
            yield "/"
        if parameter.kind is parameter.KEYWORD_ONLY and (
            before is None or before.kind not in {before.VAR_POSITIONAL, before.KEYWORD_ONLY}
        ):
            yield "*"
        yield _parameter(parameter)
        before = parameter
    if before is not None and before.kind is before.POSITIONAL_ONLY:
        yield "/"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    shown = f"{stars}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        shown += f": {_type(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        value = parameter.default
        shown += f" = {literal(value)}"
    return shown


def _type(annotation: object) -> str:
    return str(annotation).replace("'", '"')


def literal(value: object) -> str:
    """Return a default as it is written in code."""
    match value:
        case str():
            return f'"{value}"'
        case tuple():
            return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
        case timedelta():
            return f"timedelta(seconds={value.total_seconds():g})"
    return value.__name__ if isinstance(value, FunctionType | type) else repr(value)


def _code(lines: list[str], language: str = "python no-run") -> str:
    return f"```{language}\n" + "\n".join(lines) + "\n```\n"
