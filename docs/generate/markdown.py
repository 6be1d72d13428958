"""Markdown: what the pages are put together from."""

from __future__ import annotations

from collections.abc import Iterable

NOTICE = "<!-- Made from the code by `make docs`; a change here is lost. -->\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; a bar within a cell is escaped."""
    heads = list(head)
    lines = [heads, ["---"] * len(heads), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def one_line(text: str) -> str:
    """Return a docstring as one line, in which `code` stays."""
    return " ".join(text.split())
