"""The application of a site: tasks that journal their runs. The environment names the store."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time

from deeper_tasks import BackgroundTaskManager
from proofs.production.journal import journalled_run

manager = BackgroundTaskManager.from_settings()

_OF_THE_SHELL = 7


@manager.task
async def nap(seconds: float = 0) -> None:
    """Sleep on the loop."""
    with journalled_run():
        await asyncio.sleep(seconds)


@manager.task
def nap_in_thread(seconds: float = 0) -> None:
    """Sleep in a thread."""
    with journalled_run():
        time.sleep(seconds)


@manager.task(executor="process")
def nap_in_process(seconds: float = 0) -> None:
    """Sleep in a process of its own."""
    with journalled_run():
        time.sleep(seconds)


@manager.task(max_attempts=1)
def leave_orphan() -> None:
    """Run a shell that leaves a process behind; its own exit status must come here."""
    with journalled_run():
        assert subprocess.run(["sh", "-c", "sleep 0 & exit 7"], check=False).returncode == _OF_THE_SHELL


@manager.task(executor="process", max_attempts=1)
def leave_orphan_and_die() -> None:
    """Leave a process behind in a session of its own, then be killed."""
    with journalled_run():
        subprocess.Popen(["setsid", "sleep", "0.2"])
    os.kill(os.getpid(), signal.SIGKILL)
