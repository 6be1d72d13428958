"""The site: where the shop's files and servers are. Worker processes learn it from their environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

_FOLDER, _SMTP_PORT, _API_URL = "DEMO_FOLDER", "DEMO_SMTP_PORT", "DEMO_API_URL"


@dataclass(frozen=True, kw_only=True)
class Site:
    """The folder of one run of the demo, and the addresses of its servers on the loopback."""

    folder: Path
    smtp_port: int
    api_url: str

    @classmethod
    def from_environment(cls) -> Self:
        """Return the site that this process was started for."""
        return cls(
            folder=Path(os.environ[_FOLDER]), smtp_port=int(os.environ[_SMTP_PORT]), api_url=os.environ[_API_URL]
        )

    def to_environment(self) -> dict[str, str]:
        """Return what a process needs in its environment; `DEEPER_TASKS_URL` is the manager's own setting."""
        return {
            _FOLDER: str(self.folder),
            _SMTP_PORT: str(self.smtp_port),
            _API_URL: self.api_url,
            "DEEPER_TASKS_URL": f"sqlite:///{quote(str(self.folder / 'tasks.db'))}",
        }

    @property
    def database(self) -> Path:
        """The shop's own database; the jobs have one of their own."""
        return self.folder / "shop.db"

    @property
    def videos(self) -> Path:
        """Where the uploaded clip lies and its transcoded versions go."""
        return self.folder / "videos"
