"""The event bus."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from deeper_tasks.integrations.events import (
    EventBus,
    JobCompleted,
    JobEvent,
    JobStarted,
    StoreRecovered,
)

STARTED = JobStarted(job_id="id", task="t", queue="q", attempt=1, wait=timedelta(0))
COMPLETED = JobCompleted(job_id="id", task="t", queue="q", attempt=1, ran_for=timedelta(seconds=1))
RECOVERED = StoreRecovered(after=timedelta(seconds=1))


@pytest.fixture
def bus():
    return EventBus()


def test_nobody_wants_anything_at_first(bus):
    assert not bus.wants(JobStarted)
    bus.emit(STARTED)


def test_a_subscriber_gets_the_kinds_it_named(bus):
    got = []
    bus.subscribe(got.append, JobStarted)
    for event in (STARTED, COMPLETED, RECOVERED):
        bus.emit(event)
    assert got == [STARTED]
    assert bus.wants(JobStarted)
    assert not bus.wants(JobCompleted)


def test_a_kind_stands_for_its_subclasses(bus):
    got = []
    bus.subscribe(got.append, JobEvent)
    for event in (STARTED, COMPLETED, RECOVERED):
        bus.emit(event)
    assert got == [STARTED, COMPLETED]


def test_a_subscriber_without_kinds_gets_all_in_order(bus):
    got = []
    bus.subscribe(lambda event: got.append(("first", event)))
    bus.subscribe(lambda event: got.append(("second", event)))
    bus.emit(RECOVERED)
    assert got == [("first", RECOVERED), ("second", RECOVERED)]


def test_unsubscribing_ends_it_and_may_be_repeated(bus):
    got = []
    unsubscribe = bus.subscribe(got.append)
    bus.emit(STARTED)
    unsubscribe()
    unsubscribe()
    bus.emit(STARTED)
    assert got == [STARTED]
    assert not bus.wants(JobStarted)


def test_a_subscriber_may_change_its_mind_at_any_time(bus):
    got, wanted = [], set()
    bus.subscribe(got.append, is_wanted=lambda kind: kind in wanted)
    assert not bus.wants(JobStarted)
    bus.emit(STARTED)
    wanted.add(JobStarted)
    assert bus.wants(JobStarted)
    bus.emit(STARTED)
    assert got == [STARTED]


def test_one_that_raises_is_logged_once_and_harms_nobody(bus, caplog):
    got = []

    def fail(event):
        raise RuntimeError("no")

    bus.subscribe(fail)
    bus.subscribe(got.append)
    with caplog.at_level(logging.ERROR, logger="deeper_tasks"):
        bus.emit(STARTED)
        bus.emit(COMPLETED)
    assert got == [STARTED, COMPLETED]
    assert [record.getMessage() for record in caplog.records] == [
        "a subscriber to events failed at JobStarted; its further errors are not logged"
    ]


def test_one_that_unsubscribes_while_it_is_called_disturbs_nobody(bus):
    got = []

    def once(event):
        unsubscribe()

    unsubscribe = bus.subscribe(once)
    bus.subscribe(got.append)
    bus.emit(STARTED)
    assert got == [STARTED]


@pytest.mark.parametrize("error", [SystemExit(0), asyncio.CancelledError(), MemoryError()])
def test_not_even_what_ends_programs_gets_out_of_a_subscriber(bus, caplog, error):
    def fail(event):
        raise error

    bus.subscribe(fail)
    bus.emit(COMPLETED)
    assert "a subscriber to events failed" in caplog.text


def test_ctrl_c_in_a_program_without_a_loop_gets_out(bus):
    def interrupted(event):
        raise KeyboardInterrupt

    bus.subscribe(interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.emit(COMPLETED)


def test_one_that_cannot_say_what_it_wants_harms_nobody(bus, caplog):
    heard = []

    def fail(kind):
        raise RuntimeError("undecided")

    bus.subscribe(heard.append, is_wanted=fail)
    assert bus.wants(JobCompleted)
    bus.emit(COMPLETED)
    assert heard == []
    assert "a subscriber to events failed" in caplog.text


def test_a_log_that_fails_too_harms_nobody(bus, monkeypatch):
    def fail(record):
        raise RuntimeError("no paper")

    bus.subscribe(fail)
    logger = logging.getLogger("deeper_tasks")
    logger.addFilter(fail)
    try:
        bus.emit(COMPLETED)
    finally:
        logger.removeFilter(fail)
