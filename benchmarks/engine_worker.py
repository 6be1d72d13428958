"""The application that `deeper worker` serves in the benchmark; the environment names the store."""

from __future__ import annotations

from deeper_tasks import BackgroundTaskManager

manager = BackgroundTaskManager.from_settings()
manager.include("benchmarks.engine_tasks")
