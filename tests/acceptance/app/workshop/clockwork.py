"""The clockwork: an application whose first version has a task run every second, and whose second does not."""

from __future__ import annotations

import os

from deeper_tasks import BackgroundTaskManager
from workshop import journal

manager = BackgroundTaskManager.from_settings()


@manager.task(cron=None if os.environ.get("WORKSHOP_VERSION") == "2" else "@every 1s")
async def tick() -> None:
    """Note that it ran."""
    journal.write("end")
