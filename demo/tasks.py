"""The tasks: what an application writes. Workers are started with `deeper worker demo.tasks:manager`."""

from __future__ import annotations

import asyncio
import json
import os
import smtplib
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any
from urllib.request import urlopen

from deeper_tasks import BackgroundTaskManager, current_job
from demo import video
from demo.shop import Shop
from demo.site import Site

manager = BackgroundTaskManager.from_settings()

SYNC_ATTEMPTS = 5
SYNC_DELAY_SECONDS = 0.4
_PATIENCE_SECONDS = 45


@manager.task(queue="emails", max_attempts=5, retry_delay_seconds=1, timeout_seconds=60)
def send_welcome(name: str, address: str) -> None:
    """
    Send a new customer the welcome mail. A plain `def`: it runs in a thread.

    A worker may die after the server took the mail and before the end of the
    job is stored; the job then runs again. The Message-ID is made of the job's id, which is
    the same in every attempt, so the second copy can be known for what it is.
    """
    message = EmailMessage()
    message["From"] = "The shop <hello@shop.example>"
    message["To"] = f"{name} <{address}>"
    message["Subject"] = f"Welcome, {name}!"
    message["Message-ID"] = f"<{current_job().id}@shop.example>"
    message["X-Sent-By-Process"] = str(os.getpid())
    message.set_content(f"Dear {name},\n\nyour account is ready.\n")
    port = Site.from_environment().smtp_port
    with smtplib.SMTP("127.0.0.1", port, local_hostname="worker.shop.example", timeout=_PATIENCE_SECONDS) as server:
        server.send_message(message)


@manager.task(queue="media", executor="process", max_attempts=3, retry_delay_seconds=1, timeout_seconds=120)
def transcode_video(name: str, kind: str) -> str:
    """Transcode an uploaded video to "mp4" or "webm". A process of its own runs it, which can really be killed."""
    job = current_job()
    videos = Site.from_environment().videos
    target = videos / f"{name.rpartition('.')[0]}.{kind}"
    # Under a name of this attempt's own until it is whole: an attempt before may have died half-way.
    part = target.with_name(f"{target.name}.{job.attempt}.part")
    video.transcode(videos / name, part, kind=kind, on_progress=lambda done: job.progress(done, f"to {kind}"))
    part.replace(target)
    for leftover in videos.glob(f"{target.name}.*.part"):
        leftover.unlink()
    return target.name


@manager.task(queue="maintenance", max_attempts=3, timeout_seconds=60)
def delete_old_sessions(days: int) -> int:
    """Delete the sessions that were not used for so many days; returns how many."""
    return Shop(Site.from_environment().database).delete_sessions(before=datetime.now(UTC) - timedelta(days=days))


@manager.task(
    queue="sync", max_attempts=SYNC_ATTEMPTS, retry_delay_seconds=SYNC_DELAY_SECONDS, timeout_seconds=_PATIENCE_SECONDS
)
async def sync_product(product_id: int) -> None:
    """
    Bring a product's price and stock from the supplier's API into the shop. An `async def`: it runs on the loop.

    An answer of 503 raises HTTPError, which is all it takes to be tried again later.
    """
    site = Site.from_environment()
    product = await asyncio.to_thread(_fetch, f"{site.api_url}/products/{product_id}")
    await asyncio.to_thread(
        Shop(site.database).save_product, product_id, price=product["price"], stock=product["stock"]
    )


def _fetch(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=_PATIENCE_SECONDS) as answer:
        product: dict[str, Any] = json.load(answer)
        return product
