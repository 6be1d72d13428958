"""The environment of a command: its Python, the installed extras, and the sources of its settings."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version

from deeper_tasks import __version__
from deeper_tasks.cli.target import Target, settings_file
from deeper_tasks.config import redacted
from deeper_tasks.config.loading import PREFIX
from deeper_tasks.config.working_folder import why_unsearchable
from deeper_tasks.domain.finding import Finding, fault, fine

_DISTRIBUTION = "deeper-tasks"
_OLDEST_PYTHON = (3, 11)
_OF_AN_EXTRA = re.compile(r"""(?P<name>[\w.-]+)[^;]*;.*\bextra\s*==\s*["'](?P<extra>[\w.-]+)["']""")


def examine_python() -> Iterator[Finding]:
    """Yield the findings about Python and the extras of this package."""
    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _OLDEST_PYTHON:
        oldest = ".".join(map(str, _OLDEST_PYTHON))
        yield fault("python", f"Python {python} is too old", f"run Python {oldest} or later")
    else:
        yield fine("python", f"Python {python}, deeper_tasks {__version__}")
    for extra, missing in _extras(requires_of(_DISTRIBUTION)).items():
        yield fine(f"extra {extra}", f"not installed, lacks {', '.join(missing)}" if missing else "installed")


def requires_of(distribution: str) -> list[str]:
    """Return the requirements of a distribution; an empty list if it is not installed, but run from its sources."""
    try:
        return requires(distribution) or []
    except PackageNotFoundError:
        return []


def examine_settings(target: Target) -> Iterator[Finding]:
    """Yield a finding that names the sources of the settings; it does not check whether their values can be used."""
    sources = []
    if target.url is not None:
        sources.append(f"--url {redacted(target.url)}")
    if target.app is not None:
        sources.append(f"--app {target.app}")
    if target.app is None and target.url is None:
        sources += [variable for variable in sorted(os.environ) if variable.startswith(PREFIX) and os.environ[variable]]
        # Loading the settings reports a file that cannot be read.
        with suppress(OSError, ValueError):
            file = settings_file()
            sources += [] if file is None else [str(file)]
        if obstacle := why_unsearchable():
            sources.append(f"no file: {obstacle}")
    if sources:
        yield fine("settings from", ", ".join(sources))


def _extras(requirements: list[str]) -> dict[str, list[str]]:
    """Return, for each extra, the packages of it that are not installed."""
    extras: defaultdict[str, list[str]] = defaultdict(list)
    for requirement in requirements:
        match = _OF_AN_EXTRA.match(requirement)
        if match is not None and not _is_installed(match["name"]):
            extras[match["extra"]].append(match["name"])
        elif match is not None:
            extras[match["extra"]] += []
    return extras


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
