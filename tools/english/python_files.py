"""Python files: their docstrings, comments, string literals and the names that they define."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

from tools.english import rules
from tools.english.rules import Fault


class Text(NamedTuple):
    """Words that a reader reads at one go: the line where they begin, and whether they begin a sentence."""

    line: int
    text: str
    begins: bool = True


def texts(source: str) -> Iterator[Text]:
    """Yield the docstrings, string literals and comments of a module."""
    yield from _strings(ast.parse(source))
    yield from _comments(source)


def faulty_names(source: str) -> Iterator[tuple[int, Fault]]:
    """Yield the names that a module defines and that are not used here, each with its line."""
    for node in ast.walk(ast.parse(source)):
        for line, fault in _checked(node):
            if fault is not None:
                yield line, fault


def _checked(node: ast.AST) -> Iterator[tuple[int, Fault | None]]:
    match node:
        case ast.ClassDef(name=name, lineno=line):
            yield line, rules.fault_of_class(name)
        case ast.FunctionDef(name=name, lineno=line) | ast.AsyncFunctionDef(name=name, lineno=line):
            yield line, rules.fault_of_identifier(name)
        case ast.arg(arg=name, lineno=line):
            yield line, rules.fault_of_identifier(name)
        case ast.Name(id=name, ctx=ast.Store(), lineno=line) | ast.Attribute(attr=name, ctx=ast.Store(), lineno=line):
            yield line, rules.fault_of_identifier(name)
        case ast.alias(asname=str(name), lineno=line):
            yield line, rules.fault_of_identifier(name)


def _strings(tree: ast.Module) -> Iterator[Text]:
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            text = node.value
        else:
            continue
        if id(node) in docs:
            yield from _paragraphs(node.lineno, text)
        else:
            yield Text(node.lineno, text, begins=" " in text and not text.startswith(" "))


def _paragraphs(line: int, text: str) -> Iterator[Text]:
    """Yield the parts of a docstring that begin a sentence: its paragraphs, list items and entries of sections."""
    part: list[str] = []
    begun = line
    for number, each in enumerate(text.split("\n"), line):
        words = each.strip()
        is_item = words.startswith(("- ", "* "))
        if (not words or is_item) and part:
            yield Text(begun, "\n".join(part))
            part = []
        if words:
            if not part:
                begun = number
            part.append(words[2:] if is_item else words)
    if part:
        yield Text(begun, "\n".join(part))


def _comments(source: str) -> Iterator[Text]:
    block: list[str] = []
    begun = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, column = token.start
        words = token.string.lstrip("#!").strip()
        alone = not token.line[:column].strip()
        if block and alone and line == last + 1:
            block.append(words)
        else:
            if block:
                yield Text(begun, "\n".join(block))
            block, begun = [words], line
        last = line if alone else -1
    if block:
        yield Text(begun, "\n".join(block))
