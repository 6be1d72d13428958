"""The call sites of a task's `enqueue` in source code: where one stands that nothing awaits."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from deeper_tasks.tasks import Task

_MOST = 3


def unawaited_sites(task: Task[..., Any]) -> list[str]:
    """
    Return the places, `file:line`, where loaded modules keep what the task's `enqueue` gives, without an await.

    At most three; one whose variable another line awaits may be among them. It reads the files: it is for an error that
    has happened.
    """
    return list(islice(_sites(task), _MOST))


def _sites(task: Task[..., Any]) -> Iterator[str]:
    home = sys.modules.get(task.module or "")
    for module in tuple(sys.modules.values()):
        names = _names(module, task, home)
        if names and (file := _file_of(module)):
            with suppress(OSError, SyntaxError, ValueError):
                tree = ast.parse(Path(file).read_bytes())
                yield from (f"{file}:{line}" for line in _lines(tree, {*names, task.__name__}))


def _file_of(module: ModuleType) -> str | None:
    # The program's own module forgets its file at the end of the interpreter.
    program = sys.argv[0] if sys.argv and module.__name__ == "__main__" else None
    return getattr(module, "__file__", None) or program


def _names(module: ModuleType, task: Task[..., Any], home: ModuleType | None) -> set[str]:
    """Return the names by which a module knows the task, or the task's own module."""
    return {
        name for name, value in tuple(vars(module).items()) if value is task or (value is home and home is not None)
    }


def _lines(node: ast.AST, names: set[str]) -> Iterator[int]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            # A statement of its own keeps nothing.
            continue
        if isinstance(child, ast.Call):
            # An argument of another call is passed on, to gather(…) or create_task(…) for example.
            if (
                isinstance(child.func, ast.Attribute)
                and child.func.attr == "enqueue"
                and names & set(_chain(child.func))
            ):
                yield child.lineno
        elif not isinstance(child, ast.Await):
            yield from _lines(child, names)


def _chain(node: ast.expr) -> Iterator[str]:
    """Yield the names of an expression such as `tasks.send.with_options(…).enqueue`, from behind."""
    while True:
        if isinstance(node, ast.Attribute):
            yield node.attr
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            break
    if isinstance(node, ast.Name):
        yield node.id
