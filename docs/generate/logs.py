"""The log: the sentences of all its lines, read from the source."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

from docs.generate.events import kinds, level
from docs.generate.markdown import NOTICE, table

import deeper_tasks
from deeper_tasks.integrations import log_sentences

SOURCE = Path(deeper_tasks.__file__).parent
_LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
_LOGGERS = {"_logger", "logger"}
_ANY = "…"
_OF_EVENTS = "integrations/logs.py"
"""Writes the sentences of the events."""


def logs() -> str:
    """Return the page."""
    return f"""{NOTICE}
# The log

Here you find each sentence that the library writes to the logger `deeper_tasks`, so that you can search a log for it,
or have an alert raised by it. A sentence begins with its subject. Its words stay as they are; `…` stands for what
differs: a name, a duration, an error. `TASK ID` is the name of a job's task, and the job's id.

Arguments and results of jobs never appear. Records about a job carry `job_id`, `task`, `queue` and `attempt` as fields.

## Of events

[The events](events.md) say what they report and what they carry.

{table(["event", "level", "sentence"], _event_rows())}
## Of the parts of the library

{table(["level", "sentence", "written by"], _rows())}"""


def sentences() -> Iterator[tuple[str, str, str]]:
    """Yield the level, the sentence and the module of each call of a logger in the library."""
    for path in sorted(SOURCE.rglob("*.py")):
        module = path.relative_to(SOURCE).as_posix()
        if module == _OF_EVENTS:
            continue
        tree = ast.parse(path.read_text())
        for scope, call in _calls(tree):
            for sentence in _formatted(call, scope):
                yield _level(call), sentence, module


def event_sentences() -> dict[str, list[str]]:
    """Return the sentences of each event, by its name."""
    tree = ast.parse(Path(log_sentences.__file__).read_text())
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    book = next(
        each.value for each in tree.body if isinstance(each, ast.AnnAssign) and _name(each.target) == "SENTENCES"
    )
    assert isinstance(book, ast.Dict)
    found = {}
    for key, entry in zip(book.keys, book.values, strict=True):
        assert isinstance(key, ast.Attribute)
        assert isinstance(entry, ast.Tuple)
        words = entry.elts[1]
        if isinstance(words, ast.Lambda):
            found[key.attr] = [_on_one_line(text) for text in _texts(words.body, None)]
        else:
            function = functions[_name(words)]
            returns = [each.value for each in ast.walk(function) if isinstance(each, ast.Return) and each.value]
            found[key.attr] = [_on_one_line(text) for value in returns for text in _texts(value, function)]
    return found


def _event_rows() -> Iterator[list[str]]:
    words = event_sentences()
    for kind in kinds():
        if kind.__name__ in words:
            yield [f"`{kind.__name__}`", level(kind), "<br>".join(f"`{each}`" for each in words[kind.__name__])]


def _rows() -> Iterator[list[str]]:
    for found, sentence, module in sorted(set(sentences()), key=lambda row: (row[2], row[1])):
        yield [found, f"`{sentence}`", f"`{module}`"]


def _calls(tree: ast.AST, scope: ast.AST | None = None) -> Iterator[tuple[ast.AST | None, ast.Call]]:
    for node in ast.iter_child_nodes(tree):
        inner = node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else scope
        function = node.func if isinstance(node, ast.Call) else None
        if isinstance(function, ast.Attribute) and function.attr in _LEVELS and _name(function.value) in _LOGGERS:
            assert isinstance(node, ast.Call)
            yield inner, node
        yield from _calls(node, inner)


def _level(call: ast.Call) -> str:
    assert isinstance(call.func, ast.Attribute)
    known = {"exception": "ERROR", "log": "WARNING or ERROR"}
    return known.get(call.func.attr, call.func.attr.upper())


def _formatted(call: ast.Call, scope: ast.AST | None) -> Iterator[str]:
    assert isinstance(call.func, ast.Attribute)
    template = call.args[1 if call.func.attr == "log" else 0]
    for text in _texts(template, scope):
        yield _without_fields(text)


def _texts(node: ast.AST, scope: ast.AST | None) -> Iterator[str]:
    """Yield what an expression may give as text, `…` in place of what is not fixed."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(each.value) if isinstance(each, ast.Constant) else _shown(each) for each in node.values)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body, scope)
        yield from _texts(node.orelse, scope)
    elif isinstance(node, ast.Name) and scope is not None and (given := list(_given(node.id, scope))):
        for each in given:
            yield from _texts(each, scope)
    else:
        yield _ANY


def _given(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and any(_name(target) == name for target in node.targets):
            yield node.value


def _shown(field: ast.expr) -> str:
    assert isinstance(field, ast.FormattedValue)
    value = field.value
    return "TASK ID" if isinstance(value, ast.Call) and _name(value.func) == "_job" else _ANY


def _without_fields(text: str) -> str:
    """Return a text of logging's with `…` in place of its fields, such as `%s` and `%.100r`."""
    shown, rest = "", text
    while "%" in rest:
        before, _, rest = rest.partition("%")
        end = next(index for index, each in enumerate(rest) if each in string.ascii_letters + "%")
        shown += before + ("%" if rest[end] == "%" else _ANY)
        rest = rest[end + 1 :]
    return _on_one_line(shown + rest)


def _on_one_line(text: str) -> str:
    return re.sub(f"{_ANY}+", _ANY, " ".join(text.split()))


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""
