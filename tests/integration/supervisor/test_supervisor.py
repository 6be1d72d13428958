"""The supervisor by itself, with processes that only wait."""

import asyncio
import sys

import pytest

from deeper_tasks.supervisor import Supervisor, SupervisorSettings
from deeper_tasks.supervisor import supervisor as supervisor_module

WAIT = (sys.executable, "-c", "import threading; threading.Event().wait()")


@pytest.fixture
async def supervised(monkeypatch):
    monkeypatch.setattr(supervisor_module, "_LOOK", 0.005)
    running = []

    def supervised(**options):
        supervisor = Supervisor(SupervisorSettings(command=WAIT, processes=1), greet=lambda *_: None, **options)
        running.append((supervisor, asyncio.create_task(supervisor.run())))
        return supervisor

    yield supervised
    for supervisor, run in running:
        supervisor.stop()
        assert await asyncio.wait_for(run, 30) == 0


async def test_it_looks_on_after_a_look_that_failed_and_says_so_once(supervised, wait_until, caplog):
    looks = []

    def look():
        looks.append(1)
        if len(looks) < 4:
            raise ZeroDivisionError("our own")

    supervisor = supervised(on_look=look)
    await wait_until(lambda: len(looks) > 5)
    assert supervisor.health().live
    assert caplog.text.count("ZeroDivisionError: our own") == 1
