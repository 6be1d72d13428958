"""The manager search: finds likely `module:manager` names in the text of a folder's files, without importing them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from deeper_tasks.config.working_folder import is_file

_MANAGER = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=\s*(?:\w+\.)*BackgroundTaskManager(?:\.from_settings)?\(", re.MULTILINE)
_MOST_FILES, _DEEPEST, _LARGEST = 2_000, 5, 200_000


def places_in(folder: Path) -> Iterator[str]:
    """Yield `module:manager` for each manager that a module below a folder makes at its top level."""
    for path, module in _modules_in(folder):
        try:
            text = path.read_bytes()[:_LARGEST].decode(errors="replace")
        except OSError:
            continue
        if "BackgroundTaskManager" in text:
            yield from (f"{module}:{name}" for name in _MANAGER.findall(text))


def modules_in(folder: Path) -> Iterator[str]:
    """Yield the names of the modules below a folder."""
    return (module for _, module in _modules_in(folder))


def _modules_in(folder: Path) -> Iterator[tuple[Path, str]]:
    count = 0
    for parent, folders, files in os.walk(folder):
        below = Path(parent).relative_to(folder).parts
        folders[:] = sorted(name for name in folders if _may_have_modules(Path(parent), name, depth=len(below)))
        for name in sorted(files):
            stem, dot, kind = name.rpartition(".")
            if not dot or kind != "py" or not stem.isidentifier():
                continue
            count += 1
            if count > _MOST_FILES:
                return
            parts = below if stem == "__init__" else (*below, stem)
            if parts:
                yield Path(parent, name), ".".join(parts)


def _may_have_modules(parent: Path, name: str, *, depth: int) -> bool:
    is_package = name.isidentifier() and name not in {"__pycache__", "node_modules"}
    return is_package and depth < _DEEPEST and not is_file(parent / name / "pyvenv.cfg")
