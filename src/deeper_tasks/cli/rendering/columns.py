"""Columns: a table with one line a row, whose texts are cut if the terminal is too narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct
from rich.cells import cell_len, get_character_cell_size, set_cell_size
from rich.text import Text

_GAP = 2
_LEAST = 4
_CUT = "…"


class Column(Struct, frozen=True, kw_only=True):
    """
    One column; its name may have several lines.

    If the terminal is too narrow, the texts of columns with a `share` are cut, so that the widths of these columns
    become proportional to their shares. A text is cut at its end; with `keeps_end`, at its start. Columns without a
    share are never cut.
    """

    name: str
    share: int = 0
    keeps_end: bool = False
    is_number: bool = False

    @property
    def heads(self) -> list[str]:
        """The lines of the name."""
        return self.name.split("\n")


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[Text]], *, width: int | None) -> list[Text]:
    """Return the names and the rows as lines of at most `width` cells; None cuts no line."""
    sizes = [
        max([*map(cell_len, column.heads), *(row[place].cell_len for row in rows)])
        for place, column in enumerate(columns)
    ]
    if width is not None:
        _shrink(sizes, columns, width=width - _GAP * (len(columns) - 1))
    return [_line(columns, sizes, row) for row in (*_heads(columns), *rows)]


def least_width(column: Column, texts: Iterable[Text]) -> int:
    """Return how many cells, with the gap, a table needs for this column if it is not cut."""
    return _GAP + max([*map(cell_len, column.heads), *(text.cell_len for text in texts)])


def cut_end(text: str, cells: int) -> str:
    """Return a text, cut at its end to `cells` cells of the terminal."""
    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1).rstrip() + _CUT


def cut_start(text: str, cells: int) -> str:
    """Return a text, cut at its start to `cells` cells of the terminal."""
    if cell_len(text) <= cells:
        return text
    left, start = cells - 1, len(text)
    while start and (size := get_character_cell_size(text[start - 1])) <= left:
        left, start = left - size, start - 1
    return _CUT + text[start:]


def _heads(columns: Sequence[Column]) -> list[list[Text]]:
    """Return the names as rows; names with fewer lines stand at the bottom."""
    most = max(len(column.heads) for column in columns)
    names = [[""] * (most - len(column.heads)) + column.heads for column in columns]
    return [[Text(name[number], style="dim") for name in names] for number in range(most)]


def _shrink(sizes: list[int], columns: Sequence[Column], *, width: int) -> None:
    while sum(sizes) > width:
        places = [place for place, column in enumerate(columns) if column.share and sizes[place] > _LEAST]
        if not places:
            return
        sizes[max(places, key=lambda place: sizes[place] / columns[place].share)] -= 1


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
