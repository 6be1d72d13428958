"""Columns: rows of texts below each other, a line each, cut where the terminal is too narrow for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from rich.cells import cell_len, get_character_cell_size, set_cell_size
from rich.text import Text

_GAP = 2
_LEAST = 4
_CUT = "…"


class Column(Struct, frozen=True, kw_only=True):
    """
    One column.

    A text of one that `may_shrink` is cut where there is no room: at its end, or at its start if it `keeps_end`.
    """

    name: str
    may_shrink: bool = False
    keeps_end: bool = False
    is_number: bool = False


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[Text]], *, width: int | None) -> list[Text]:
    """
    Return the head and the rows as lines of at most `width` cells, None: as long as need be.

    The widest columns give way first, so that short texts stay whole. What cannot shrink is not cut.
    """
    heads = [Text(column.name, style="dim") for column in columns]
    sizes = [max(row[place].cell_len for row in (heads, *rows)) for place in range(len(columns))]
    if width is not None:
        _shrink(sizes, [column.may_shrink for column in columns], width=width - _GAP * (len(columns) - 1))
    return [_line(columns, sizes, row) for row in (heads, *rows)]


def cut_end(text: str, cells: int) -> str:
    """Return a text, cut at its end to so many cells of the terminal."""
    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1).rstrip() + _CUT


def cut_start(text: str, cells: int) -> str:
    """Return a text, cut at its start to so many cells of the terminal."""
    if cell_len(text) <= cells:
        return text
    left, start = cells - 1, len(text)
    while start and (size := get_character_cell_size(text[start - 1])) <= left:
        left, start = left - size, start - 1
    return _CUT + text[start:]


def _shrink(sizes: list[int], may_shrink: Sequence[bool], *, width: int) -> None:
    while sum(sizes) > width:
        widest = max((size for size, may in zip(sizes, may_shrink, strict=True) if may), default=0)
        if widest <= _LEAST:
            return
        # The last of the widest: what stands first names the job.
        place = max(place for place, size in enumerate(sizes) if may_shrink[place] and size == widest)
        sizes[place] -= 1


def _line(columns: Sequence[Column], sizes: Sequence[int], row: Sequence[Text]) -> Text:
    line = Text()
    for place, (column, size, text) in enumerate(zip(columns, sizes, row, strict=True)):
        if text.cell_len > size:
            cut = cut_start if column.keeps_end else cut_end
            text = Text(cut(text.plain, size), style=text.style)  # noqa: PLW2901 - the same, shorter
        padding = " " * (size - text.cell_len)
        line.append_text(Text(padding) + text if column.is_number else text + Text(padding))
        if place < len(columns) - 1:
            line.append(" " * _GAP)
    line.rstrip()
    return line
