"""A seller process: enqueues inside transactions of its own, commits the first and never comes to end the second."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys

from deeper_tasks import BackgroundTaskManager
from workshop.tasks import nap


def _print(*words: str) -> None:
    os.write(sys.stdout.fileno(), f"{' '.join(words)}\n".encode())


def _sell(manager: BackgroundTaskManager, shop: sqlite3.Connection, number: int) -> str:
    shop.execute("INSERT INTO orders VALUES (?)", (number,))
    if sys.argv[1] == "sync":
        return manager.sync.enqueue_task(nap, connection=shop)
    return asyncio.run(manager.enqueue_task(nap, connection=shop))


def main() -> None:
    """Sell, then wait to be killed with a transaction open."""
    manager = BackgroundTaskManager.from_settings()
    manager.sync.open()
    shop = sqlite3.connect(manager.settings.url.removeprefix("sqlite:///"))
    first = _sell(manager, shop, 1)
    shop.commit()
    _print("committed", first)
    _print("open", _sell(manager, shop, 2))
    signal.pause()


if __name__ == "__main__":
    main()
