"""The application of the demonstration: its manager and its tasks."""

from __future__ import annotations

import asyncio

from deeper_tasks import BackgroundTaskManager, current_job

manager = BackgroundTaskManager(
    "sqlite:///demo.db", queues={"default": 5, "emails": 3, "reports": 2}, poll_interval_seconds=0.2
)

_WORKING_ATTEMPT = 3


@manager.task(name="demo.send_mail", queue="emails")
async def send_mail(recipient: str) -> str:
    """Sleep for as long as a mail server would take."""
    await asyncio.sleep(0.4)
    return f"mail to {recipient} delivered"


@manager.task(name="demo.ask_weather", retry_delay_seconds=0.5)
async def ask_weather(city: str) -> str:
    """Fail twice, as a remote service may do, then succeed."""
    await asyncio.sleep(0.1)
    if current_job().attempt < _WORKING_ATTEMPT:
        raise ConnectionError("the weather service does not answer")
    return f"sun over {city}"


@manager.task(name="demo.charge_card", max_attempts=2, retry_delay_seconds=0.5)
async def charge_card(number: str) -> None:
    """Fail at each attempt, and end as a dead letter."""
    await asyncio.sleep(0.1)
    message = f"the card {number} has expired"
    raise PermissionError(message)


@manager.task(name="demo.build_report", queue="reports")
async def build_report(pages: int) -> int:
    """Report progress, page by page."""
    for page in range(1, pages + 1):
        await asyncio.sleep(0.15)
        current_job().progress(page, f"page {page} of {pages}", total=pages)
    return pages


@manager.task(name="demo.count_primes", executor="process")
def count_primes(below: int) -> int:
    """Use a whole processor core, in a process of its own."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, below))


@manager.task(name="demo.remind")
async def remind(about: str) -> str:
    """Run later, at the scheduled time."""
    return f"time for {about}"


@manager.task(name="demo.tick")
async def tick() -> None:
    """Run each second, by a recurring entry."""
