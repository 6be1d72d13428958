"""The availability of a store: told without a flicker, asked for by one part at a time, and back for all at once."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from deeper_tasks.backends.availability import Availability
from deeper_tasks.integrations.events import EventBus, StoreRecovered, StoreUnavailable

LOCKED = OSError("locked")


class Scene:
    """An availability by a clock of the test's own."""

    def __init__(self):
        self.now, self.chance, self.heard = 1000.0, 0.5, []
        bus = EventBus()
        bus.subscribe(self.heard.append)
        self.availability = Availability(bus=bus, monotonic=lambda: self.now, random=lambda: self.chance)

    def after(self, seconds, *, works="", fails=""):
        """Have parts be answered, and then others fail, some seconds later."""
        self.now += seconds
        for part in works.split():
            self.availability.mark_working(by=part)
        for part in fails.split():
            self.availability.mark_failing(LOCKED, by=part)
        return [type(event) for event in self.heard]

    def turn(self):
        """Return how long a part that fails now waits, at least, before it may ask."""
        return self.availability._wait_for_turn(asyncio.Event())


@pytest.fixture
def scene():
    return Scene()


@pytest.fixture
def pausing(scene):
    """Have parts of this name wait for the store; the tasks end when they are to try again."""
    tasks = []

    async def sleep(seconds, *, until):
        await until.wait()

    def pausing(*names):
        for name in names:
            scene.availability.mark_failing(LOCKED, by=name)
            tasks.append(asyncio.create_task(scene.availability.pause(sleep, until=asyncio.Event()), name=name))
        return tasks

    yield pausing
    for task in tasks:
        task.cancel()


# What is told.


def test_a_locked_store_that_is_still_read_is_told_once_and_back_once(scene):
    for _ in range(100):
        told = scene.after(1, works="promoter rescuer heartbeat", fails="settler")
        assert told == [StoreUnavailable]
        assert not scene.availability.is_working
    assert scene.after(5, works="settler promoter") == [StoreUnavailable]
    assert scene.after(1, works="promoter") == [StoreUnavailable, StoreRecovered]
    # From the first failure to the first answer to each part.
    assert scene.heard[-1].after == timedelta(seconds=99 + 5)


def test_each_part_that_has_failed_must_be_answered_or_ask_nothing_more(scene):
    scene.after(1, fails="settler consumer promoter")
    scene.after(1, works="settler promoter")
    assert scene.after(9, works="settler") == [StoreUnavailable]
    scene.availability.mark_idle(by="consumer")
    scene.after(1, works="settler")
    assert scene.after(1, works="settler") == [StoreUnavailable, StoreRecovered]


def test_a_store_that_comes_and_goes_is_told_ever_more_seldom(scene):
    for _ in range(100):
        scene.after(5, fails="settler")
        scene.after(1, works="settler")
        scene.after(1.5, works="settler")
    # One back after a second, and then none for so long as it fails again within four.
    assert scene.after(0) == [StoreUnavailable, StoreRecovered, StoreUnavailable]
    assert scene.after(3, works="settler")[-1] is StoreRecovered


def test_one_that_fails_again_much_later_is_told_at_once(scene):
    for _ in range(2):
        scene.after(100, fails="settler")
        scene.after(1, works="settler")
        told = scene.after(1, works="settler")
    assert told == [StoreUnavailable, StoreRecovered] * 2


# Who asks, and when.


async def test_one_part_at_a_time_asks_and_the_next_after_a_gap_that_chance_makes(scene):
    gaps = []
    for chance in (0.0, 0.5, 1.0):
        scene.after(1000, fails="settler consumer promoter")
        scene.now += scene.turn()
        scene.chance = chance
        assert scene.turn() == 0
        scene.chance = 0.0
        gaps.append(scene.turn())
        assert scene.turn() == gaps[-1]
        scene.after(0, works="settler consumer promoter")
    assert gaps == pytest.approx([0.1, 0.175, 0.25])


async def test_an_outage_of_hours_is_not_asked_for_four_times_a_second(scene):
    scene.after(0, fails="settler")
    gaps = {}
    for away in (10, 100, 3600):
        scene.now = 1000.0 + away
        assert scene.turn() == 0
        gaps[away] = scene.turn()
    assert gaps == pytest.approx({10: 0.175, 100: 0.7, 3600: 3.5}, abs=0.02)
    scene.after(0, works="settler", fails="settler")
    scene.now += scene.turn()
    assert scene.turn() == 0
    assert scene.turn() == pytest.approx(0.175, abs=0.02)


async def test_where_the_store_is_not_away_nothing_waits(scene):
    assert scene.turn() == 0
    assert scene.turn() == 0


# What ends the pauses.


async def test_the_first_answer_to_any_part_of_the_process_ends_all_pauses(scene, pausing):
    parts = pausing("settler", "consumer", "promoter")
    await asyncio.sleep(0)
    scene.availability.mark_working(by="producer")
    await asyncio.wait_for(asyncio.gather(*parts), 10)


async def test_an_answer_in_another_thread_ends_them_too(scene, pausing):
    parts = pausing("settler")
    await asyncio.sleep(0)
    thread = threading.Thread(target=scene.availability.mark_working, kwargs={"by": "manager.sync"})
    thread.start()
    thread.join()
    await asyncio.wait_for(asyncio.gather(*parts), 10)


async def test_a_store_that_answers_others_all_the_time_is_not_tried_again_at_each_answer(scene, pausing):
    scene.after(0, fails="settler")
    scene.after(0, works="promoter")
    pausing("settler")
    await asyncio.sleep(0)
    scene.after(0.5, works="promoter")
    await asyncio.sleep(0)
    assert scene.availability._waiting
    scene.after(0.6, works="promoter")
    assert not scene.availability._waiting


async def test_a_part_that_ends_while_it_waits_is_forgotten(scene, pausing):
    [part] = pausing("settler")
    await asyncio.sleep(0)
    part.cancel()
    await asyncio.wait([part])
    assert not scene.availability._waiting


async def test_the_child_of_a_fork_begins_anew(scene, pausing):
    pausing("settler")
    await asyncio.sleep(0)
    scene.availability.forget_parent()
    assert not scene.availability.is_away
    assert not scene.availability._waiting
    assert scene.availability.is_working
