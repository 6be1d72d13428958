"""The settings: their table, from the class that checks them."""

from __future__ import annotations

import ast
import inspect

import msgspec
from docs.generate.markdown import NOTICE, one_line, table

from deeper_tasks.config import Settings


def settings() -> str:
    """Return the page."""
    return f"""{NOTICE}
# Settings

The value of a setting comes from the first of these sources that has it: the arguments of `BackgroundTaskManager(…)`,
the environment, the TOML file, the default. `BackgroundTaskManager.from_settings()` and the command `deeper` read the
environment and the file. In the environment, the name is `DEEPER_TASKS_` with the setting's name in capitals
(`DEEPER_TASKS_URL`). The file is `deeper_tasks.toml` in the working folder, or the table `[tool.deeper_tasks]` of
`pyproject.toml`. A wrong or unknown setting is an error that names it. If this user may not enter the working folder,
or if it was removed, no file is read; with `DEEPER_TASKS_URL` the command works there too.

{table(["setting", "default", "meaning"], _rows())}"""


def _rows() -> list[list[str]]:
    meanings = _meanings()
    return [
        [f"`{name}`", f"`{_shown(value)}`", meanings.get(name, "")]
        for name, value in msgspec.structs.asdict(Settings()).items()
    ]


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {each}" for key, each in value.items()) + " }"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _meanings() -> dict[str, str]:
    """The docstring that follows a setting in its class."""
    (tree,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(tree, ast.ClassDef)
    meanings = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                meanings[name] = one_line(meaning)
    return meanings
