"""The health of the store: told when it goes and when it is back, without a flicker between the two."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deeper_tasks.integrations.events import EventBus, StoreRecovered, StoreUnavailable
from deeper_tasks.worker.health import StoreHealth

LOCKED = OSError("locked")


class Passing:
    """A clock of which only the time is asked."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class Scene:
    def __init__(self):
        self.clock, self.heard, self.woken = Passing(), [], 0
        bus = EventBus()
        bus.subscribe(self.heard.append)
        self.health = StoreHealth(bus=bus, clock=self.clock)
        self.health.on_back(self.wake)

    def wake(self):
        self.woken += 1

    def after(self, seconds, *, works="", fails=""):
        """Have roles be answered, and then others fail, some seconds later."""
        self.clock.now += seconds
        for role in works.split():
            self.health.mark_working(by=role)
        for role in fails.split():
            self.health.mark_failing(LOCKED, by=role)
        return [type(event) for event in self.heard]


@pytest.fixture
def scene():
    return Scene()


def test_a_locked_store_that_is_still_read_is_told_once_and_back_once(scene):
    for _ in range(100):
        told = scene.after(1, works="promoter rescuer heartbeat", fails="settler")
        assert told == [StoreUnavailable]
        assert not scene.health.is_working
    assert scene.after(5, works="settler promoter") == [StoreUnavailable]
    assert scene.after(1, works="promoter") == [StoreUnavailable, StoreRecovered]
    # From the first failure to the first answer to each role.
    assert scene.heard[-1].after == timedelta(seconds=99 + 5)


def test_each_role_that_has_failed_must_be_answered_or_ask_nothing_more(scene):
    scene.after(1, fails="settler consumer promoter")
    scene.after(1, works="settler promoter")
    assert scene.after(9, works="settler") == [StoreUnavailable]
    scene.health.mark_idle(by="consumer")
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


def test_roles_that_pause_are_woken_by_the_first_answer_after_each_failure(scene):
    scene.after(1, fails="settler")
    scene.after(1, works="promoter promoter")
    assert scene.woken == 1
    scene.after(1, fails="settler", works="promoter")
    scene.after(1, works="promoter settler")
    assert scene.woken == 2
