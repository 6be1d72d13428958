"""The pages: each by its file's name, and what makes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docs.generate.api import api
from docs.generate.commands import commands
from docs.generate.events import events
from docs.generate.life_cycle import life_cycle
from docs.generate.logs import logs
from docs.generate.settings import settings

FOLDER = Path(__file__).parents[1] / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "life-cycle.md": life_cycle,
    "events.md": events,
    "logs.md": logs,
    "settings.md": settings,
    "commands.md": commands,
    "api.md": api,
}
