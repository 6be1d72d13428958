"""The output: stdout as JSON for programs, or as a console for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from deeper_tasks.cli.process.streams import as_encodable
from deeper_tasks.domain.view import to_json

if TYPE_CHECKING:
    from rich.console import Console

_UNCUT = _PIPED_WIDTH = 240
"""Columns of an output that is not a terminal: wide, so that a program finds the texts whole."""


def write_json(answer: Any) -> None:
    """Write an answer as one line of JSON, with the keys of the views' `to_dict`."""
    click.echo(as_encodable(to_json(answer), sys.stdout))


def console() -> Console:
    """Return a console that writes to stdout: in colours on a terminal, wide and plain elsewhere."""
    from rich.console import Console

    class Screen(Console):
        """A console that raises for a broken pipe instead of ending the process: the program handles it."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Screen(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def terminal_width(screen: Console) -> int | None:
    """Return the columns of a terminal; None if the output is not a terminal, so that no text is cut."""
    return screen.width if screen.is_terminal or screen.width < _UNCUT else None
