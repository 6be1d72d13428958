"""The payments: transactional tasks, some of which end their worker at the worst moments."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sqlite3
import time
from typing import Any

import psycopg

from deeper_tasks import Done, current_job, task
from workshop import journal


@task(queue="receipts")
async def send_receipt(number: int) -> int:
    """Follow a payment."""
    return number


async def _book(number: int) -> None:
    answer = _insert(number)
    if inspect.isawaitable(answer):
        await answer
    journal.write("booked")


def _insert(number: int) -> Any:
    connection = current_job().connection
    if isinstance(connection, sqlite3.Connection):
        return connection.execute("INSERT INTO payment (number) VALUES (?)", (number,))
    return connection.execute("INSERT INTO payment (number) VALUES (%s)", (number,))


def _die_at_the_commit(*, when_done: bool = False) -> None:
    connection = current_job().connection
    if isinstance(connection, sqlite3.Connection):
        # It is called before the statement does anything.
        connection.set_trace_callback(lambda statement: statement != "COMMIT" or _die())
        return
    execute = psycopg.AsyncConnection.execute

    async def execute_and_die(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        # Those of the store's other transactions are not meant.
        if query == "COMMIT" and self.pgconn is connection.pgconn:
            if when_done:
                await execute(self, query, *arguments, **options)
            _die()
        return await execute(self, query, *arguments, **options)

    # The store ends the transaction through a connection of its own over the same session.
    psycopg.AsyncConnection.execute = execute_and_die  # type: ignore[assignment]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(transactional=True, max_attempts=20)
async def pay(number: int, seconds: float = 0.0) -> int:
    """Book a payment and enqueue what follows it, on the loop."""
    await _book(number)
    await send_receipt.enqueue(number)
    await asyncio.sleep(seconds)
    return number


@task(transactional=True, max_attempts=20)
def pay_in_thread(number: int, seconds: float = 0.0) -> int:
    """Do the same in a thread."""
    _insert(number)
    journal.write("booked")
    asyncio.run(send_receipt.enqueue(number))
    time.sleep(seconds)
    return number


@task(transactional=True)
async def pay_and_die(number: int, moment: str) -> int:
    """At the first attempt end the worker in the middle, when it commits, or when it has committed."""
    await _book(number)
    await send_receipt.enqueue(number)
    if current_job().attempt == 1:
        match moment:
            case "in the middle":
                _die()
            case "at the commit":
                _die_at_the_commit()
            case "after the commit":
                _die_at_the_commit(when_done=True)
    return number


@task(transactional=True)
def pay_and_die_in_thread(number: int, moment: str) -> int:
    """Do the same in a thread."""
    asyncio.run(pay_and_die(number, moment))
    return number


@task(transactional=True)
async def pay_slowly(number: int) -> int:
    """Book a payment, and hold the file for a second."""
    await _book(number)
    await asyncio.sleep(1)
    return number


@task(transactional=True, timeout_seconds=0.1, max_attempts=1)
async def pay_late(number: int) -> int:
    """Book a payment, and return after the timeout."""
    await _book(number)
    time.sleep(0.2)  # noqa: ASYNC251 - it is meant to block
    return number


@task(transactional=True, timeout_seconds=0.1, max_attempts=1)
def pay_late_in_thread(number: int) -> int:
    """Do the same in a thread."""
    _insert(number)
    journal.write("booked")
    time.sleep(0.2)
    return number


@task(transactional=True)
async def pay_until_stopped(number: int, how: str) -> object:
    """Book a payment, and return as soon as the worker stops."""
    await _book(number)
    while not current_job().stopping:  # noqa: ASYNC110 - the stop comes from the worker
        await asyncio.sleep(0.005)
    return Done(number) if how == "done" else number


@task(transactional=True)
def pay_until_stopped_in_thread(number: int, how: str) -> object:
    """Do the same in a thread."""
    _insert(number)
    journal.write("booked")
    while not current_job().stopping:
        time.sleep(0.005)
    return Done(number) if how == "done" else number
