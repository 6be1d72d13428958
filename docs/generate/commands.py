"""The commands: what `deeper … --help` says, of all of them."""

from __future__ import annotations

from collections.abc import Iterator

import click
from docs.generate.markdown import NOTICE

from deeper_tasks.cli import main

_WIDTH = 100


def commands() -> str:
    """Return the page."""
    sections = "\n".join(_section(context) for context in _contexts(main, "deeper", None))
    return f"{NOTICE}\n# The command `deeper`\n\n{sections}"


def _contexts(command: click.Command, name: str, parent: click.Context | None) -> Iterator[click.Context]:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=_WIDTH, terminal_width=_WIDTH)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from _contexts(found, below, context)


def _section(context: click.Context) -> str:
    return f"## {context.command_path}\n\n```text\n{context.get_help().rstrip()}\n```\n"
