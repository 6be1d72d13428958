"""The payments: transactional tasks, some of which end their worker at the worst moments."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from deeper_tasks import current_job, task
from workshop import journal


@task(queue="receipts")
async def send_receipt(number: int) -> int:
    """Follow a payment."""
    return number


def _book(number: int) -> None:
    current_job().connection.execute("INSERT INTO payment (number) VALUES (?)", (number,))
    journal.write("booked")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(transactional=True, max_attempts=20)
async def pay(number: int, seconds: float = 0.0) -> int:
    """Book a payment and enqueue what follows it, on the loop."""
    _book(number)
    await send_receipt.enqueue(number)
    await asyncio.sleep(seconds)
    return number


@task(transactional=True, max_attempts=20)
def pay_in_thread(number: int, seconds: float = 0.0) -> int:
    """Do the same in a thread."""
    _book(number)
    asyncio.run(send_receipt.enqueue(number))
    time.sleep(seconds)
    return number


@task(transactional=True)
async def pay_and_die(number: int, moment: str) -> int:
    """At the first attempt end the worker in the middle, when it commits, or when it has committed."""
    _book(number)
    await send_receipt.enqueue(number)
    if current_job().attempt == 1:
        match moment:
            case "in the middle":
                _die()
            case "at the commit":
                # It is called before the statement does anything.
                current_job().connection.set_trace_callback(lambda statement: statement != "COMMIT" or _die())
    return number


@task(transactional=True)
def pay_and_die_in_thread(number: int, moment: str) -> int:
    """Do the same in a thread."""
    asyncio.run(pay_and_die(number, moment))
    return number


@task(transactional=True)
async def pay_slowly(number: int) -> int:
    """Book a payment, and hold the file for a second."""
    _book(number)
    await asyncio.sleep(1)
    return number
