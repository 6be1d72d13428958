"""Loading: reads settings from a TOML file, the environment and arguments; each source overrides those before it."""

from __future__ import annotations

import difflib
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from deeper_tasks.config.queues import check_queue_name, check_queues, parse_queues
from deeper_tasks.config.settings import Settings
from deeper_tasks.config.url import check_characters, redacted, right_url, split_url
from deeper_tasks.config.working_folder import is_file
from deeper_tasks.domain.module_names import MODULE_PATTERN_RULE, is_module_pattern
from deeper_tasks.errors import ConfigError

PREFIX = "DEEPER_TASKS_"
FILE = "deeper_tasks.toml"

_TYPES = {field.name: field.type for field in msgspec.structs.fields(Settings)}
_DEFAULTS = msgspec.structs.asdict(Settings())
_ALIASES = {
    "default_queue_name": "default_queue",
    "cleanup_worker.retention_days_completed": "retention_days_completed",
    "cleanup_worker.retention_days_failed": "retention_days_failed",
    "cleanup_worker_retention_days_completed": "retention_days_completed",
    "cleanup_worker_retention_days_failed": "retention_days_failed",
}
_EXPLAINED = {"adapter": "the scheme of url chooses the store, such as url = 'sqlite:///tasks.db'"}
_CHOICES = {name: get_args(kind) for name, kind in _TYPES.items() if get_origin(kind) is Literal}
_WORDS = {"yes": True, "on": True, "no": False, "off": False}
_URL = re.compile(r"[a-z][a-z0-9+.-]*://.*", re.IGNORECASE)


class _Given(Struct, frozen=True):
    """A setting with the name and the source under which a user gave it."""

    name: str
    value: Any
    source: str


def load_settings(
    *, path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None, **overrides: Any
) -> Settings:
    """
    Return the settings from the file, the environment and `overrides`, in this order; each overrides those before it.

    The file is `path`, which must exist. Without a path it is `deeper_tasks.toml` in the working folder, or the table
    `[tool.deeper_tasks]` of `pyproject.toml` there; if this user may not enter the folder, no file is read. An empty
    variable `DEEPER_TASKS_<SETTING>`, and an override that is None, count as not given. The word `none` sets a setting
    to None where that is allowed.

    Raises:
        ConfigError: a setting is unknown or cannot be used; the message names its source and the way out.
        ExceptionGroup: several settings are wrong; it holds a ConfigError for each.
    """
    sources: tuple[Iterable[_Given], ...] = (
        _from_file(path),
        _from_environment(os.environ if environ is None else environ),
        [_Given(name, value, "given as an argument") for name, value in overrides.items() if value is not None],
    )
    values: dict[str, Any] = {}
    faults: list[ConfigError] = []
    for source in sources:
        seen: dict[str, str] = {}
        for given in source:
            try:
                name = _known(given, seen)
                values[name] = _value(name, given)
            except ConfigError as fault:
                faults.append(fault)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        message = f"{len(faults)} settings are wrong"
        raise ExceptionGroup(message, faults)
    return Settings(**values)


def _from_file(path: str | os.PathLike[str] | None) -> Iterator[_Given]:
    for file in [Path(path)] if path is not None else [Path(FILE), Path("pyproject.toml")]:
        if path is None and not is_file(file):
            continue
        table = _table(file, is_required=path is not None)
        if table is not None:
            yield from _entries(table, f"in {file}")
            return


def _table(file: Path, *, is_required: bool) -> dict[str, Any] | None:
    import tomllib

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"the settings file {str(file)!r} cannot be read: {error.strerror}"
        raise ConfigError(message) from error
    except ValueError as error:
        message = f"the settings file {str(file)!r} is not TOML: {error}"
        raise ConfigError(message) from error
    if file.name != "pyproject.toml":
        return content
    table = content.get("tool", {}).get("deeper_tasks")
    if table is None and is_required:
        message = f"{str(file)!r} has no table [tool.deeper_tasks]; add it, or name another file"
        raise ConfigError(message)
    if table is not None and not isinstance(table, dict):
        message = f"tool.deeper_tasks in {str(file)!r} is not a table; write [tool.deeper_tasks]"
        raise ConfigError(message)
    return table


def _entries(table: Mapping[str, Any], source: str) -> Iterator[_Given]:
    for name, value in table.items():
        if name == "cleanup_worker" and isinstance(value, dict):
            yield from (_Given(f"{name}.{key}", inner, source) for key, inner in value.items())
        else:
            yield _Given(name, value, source)


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Given]:
    for variable, value in environ.items():
        if variable.startswith(PREFIX) and value.strip():
            yield _Given(variable.removeprefix(PREFIX).lower(), value.strip(), f"from {variable}")


def _known(given: _Given, seen: dict[str, str]) -> str:
    name = _ALIASES.get(given.name, given.name)
    if name in _EXPLAINED:
        message = f"there is no setting {name!r} ({given.source}): {_EXPLAINED[name]}"
        raise ConfigError(message)
    if name not in _TYPES:
        near = difflib.get_close_matches(name, [*_TYPES, *_ALIASES], n=1)
        way_out = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_TYPES)}"
        message = f"unknown setting {given.name!r} ({given.source}); {way_out}"
        raise ConfigError(message)
    if name in seen:
        message = f"setting {name!r} is given twice ({given.source}), as {seen[name]!r} and {given.name!r}; keep one"
        raise ConfigError(message)
    seen[name] = given.name
    return name


def _value(name: str, given: _Given) -> Any:
    value = given.value
    try:
        if isinstance(value, str):
            value = _from_text(name, value)
        value = msgspec.convert(value, _TYPES[name], strict=False)
        return _CHECKS[name](value) if name in _CHECKS else value
    except (msgspec.ValidationError, ConfigError) as error:
        shown = reprlib.repr(redacted(given.value) if isinstance(given.value, str) else given.value)
        choices = _CHOICES.get(name)
        reason = f"expected one of {', '.join(choices)}" if choices else str(error).replace("Expected", "expected", 1)
        message = (
            f"setting {given.name!r} cannot be {shown} ({given.source}): {reason}; the default is {_DEFAULTS[name]!r}"
        )
        raise ConfigError(message) from (error if isinstance(error, msgspec.ValidationError) else None)


def _from_text(name: str, text: str) -> Any:
    """Convert a text, such as a variable of the environment, by the type of its setting."""
    kind = _TYPES[name]
    word = text.strip().lower()
    if word in {"none", "null"} and NoneType in get_args(kind):
        return None
    if kind is bool:
        return _WORDS.get(word, word)
    if name == "queues":
        return parse_queues(text)
    if kind == tuple[str, ...]:
        return [part.strip() for part in text.split(",") if part.strip()]
    return word if name in _CHOICES else text


def _checked_url(url: str) -> str:
    check_characters(url)
    if not _URL.fullmatch(url):
        raise ConfigError(right_url(redacted(url)))
    split_url(url)
    return url


def _checked_listen_url(url: str | None) -> str | None:
    return url and _checked_url(url)


def _checked_modules(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            message = f"{name!r} is not the name of a module; write a name such as 'myapp.tasks'"
            raise ConfigError(message)
    return names


def _checked_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        if not is_module_pattern(pattern):
            raise ConfigError(MODULE_PATTERN_RULE)
    return patterns


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "url": _checked_url,
    "listen_url": _checked_listen_url,
    "default_queue": check_queue_name,
    "queues": check_queues,
    "include": _checked_modules,
    "allowed_modules": _checked_modules,
    "task_modules": _checked_patterns,
}
