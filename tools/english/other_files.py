"""Markdown pages and SQL files: their prose, comments and blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tools.english import rules
from tools.english.python_files import Text
from tools.english.rules import Fault

_ITEM = re.compile(r"(?:[-*+]|\d+\.)\s+|>\s*")
_COMMENT = re.compile(r"(?:^|\s)(?:#|--|//)\s+(?=\w)")
_MODULE = re.compile(r"\b(\w+)\.py\b")


def markdown(source: str) -> Iterator[Text]:
    """Yield headings, list items, paragraphs, rows of tables, and the lines of blocks."""
    part: list[str] = []
    begun, fence = 0, ""
    for number, line in enumerate([*source.split("\n"), ""], 1):
        words = line.strip()
        if words.startswith("```"):
            fence = "" if fence else words
            words = ""
        elif fence:
            yield from _line_of_block(number, line)
            continue
        item = _ITEM.match(words)
        if part and (not words or item or words.startswith(("#", "|"))):
            yield Text(begun, "\n".join(part))
            part = []
        if words.startswith("#"):
            yield from _heading(number, words.lstrip("# "))
        elif words.startswith("|"):
            yield from (Text(number, cell.strip(), begins=False) for cell in words.split("|") if cell.strip())
        elif words:
            begun = begun if part else number
            part.append(words[item.end() :] if item else words)


def sql(source: str) -> Iterator[Text]:
    """Yield the comments of a file of SQL, lines that follow one another as one text."""
    block: list[str] = []
    begun = 0
    for number, line in enumerate([*source.split("\n"), ""], 1):
        _, mark, comment = line.partition("--")
        if block and not (mark and line.lstrip().startswith("--")):
            yield Text(begun, "\n".join(block))
            block = []
        if mark:
            begun = begun if block else number
            block.append(comment.strip())


def faulty_names(source: str) -> Iterator[tuple[int, Fault]]:
    """Yield the former names of modules that a page names, each with its line."""
    for number, line in enumerate(source.split("\n"), 1):
        for found in _MODULE.finditer(line):
            if fault := rules.fault_of_module(found[1]):
                yield number, fault


def _heading(number: int, words: str) -> Iterator[Text]:
    yield Text(number, words, begins=not words.endswith("?"))


def _line_of_block(number: int, line: str) -> Iterator[Text]:
    code, *comments = _COMMENT.split(line)
    yield Text(number, code, begins=False)
    yield from (Text(number, comment) for comment in comments)
