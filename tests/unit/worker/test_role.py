"""The loop of a role: turns, pauses, and what an error changes about them."""

import asyncio
import logging
from datetime import timedelta

import pytest

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import Notification, Topic
from deeper_tasks.errors import BackendError, BackendUnavailableError, NodeLostError
from deeper_tasks.integrations.events import EventBus, StoreRecovered, StoreUnavailable
from deeper_tasks.worker.clock import SystemClock
from deeper_tasks.worker.listener import Listener
from deeper_tasks.worker.role import RoleLoop, backoff, keep_running
from deeper_tasks.worker.store_access import StoreAccess


class Script:
    """A role whose turns go as the test says; after that each asks for an hour's rest."""

    def __init__(self, *turns):
        self.turns = list(turns)
        self.taken = 0

    async def turn(self):
        self.taken += 1
        step = self.turns.pop(0) if self.turns else timedelta(hours=1)
        if isinstance(step, BaseException):
            raise step
        return step


@pytest.fixture
async def play(clock, memory):
    clock.chance = 0.0
    running = []
    lost = []
    bus = EventBus()
    heard = []
    bus.subscribe(heard.append)
    availability = Availability(bus=bus, monotonic=clock.monotonic, random=clock.random)

    async def play(*turns):
        async def on_lost():
            lost.append(1)

        script = Script(*turns)
        loop = RoleLoop("test", script, StoreAccess(memory, availability, clock), on_lost=on_lost)
        running.append(asyncio.create_task(loop.run()))
        await clock.settle()
        return script, loop

    play.lost, play.heard, play.availability = lost, heard, availability
    yield play
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_role_sleeps_as_long_as_its_turn_says(play, clock):
    script, _ = await play(timedelta(seconds=5), timedelta(seconds=7))
    assert script.taken == 1
    await clock.advance(4.9)
    assert script.taken == 1
    await clock.advance(0.1)
    assert script.taken == 2
    await clock.advance(7)
    assert script.taken == 3


async def test_the_pause_after_a_wake_up_is_cut_short_by_chance(play, clock):
    clock.chance = 0.25
    _, loop = await play(*[timedelta(seconds=4)] * 5)
    for _ in range(2):
        await clock.advance(4)
    loop.wake()
    await clock.settle()
    await clock.advance(4)
    assert clock.pauses == [3, 4, 4, 3, 4]


async def test_a_role_can_be_woken(play, clock):
    script, loop = await play()
    loop.wake()
    await clock.settle()
    assert script.taken == 2


async def test_a_wake_during_a_turn_is_not_forgotten(play, clock):
    script, loop = await play()

    async def turn():
        script.taken += 1
        if script.taken == 2:
            loop.wake()
        return timedelta(hours=1)

    script.turn = turn
    loop.wake()
    await clock.settle()
    assert script.taken == 3


async def test_a_store_that_is_gone_is_asked_again_soon_and_told_once_when_it_goes_and_comes(play, clock):
    clock.chance = 0.5
    gone = [BackendUnavailableError("gone") for _ in range(8)]
    script, _ = await play(*gone)
    for _ in range(8):
        assert not play.availability.is_working
        await clock.advance(clock.pauses[-1])
    assert play.availability.is_working
    # It is told to be back once it has answered for a while.
    await clock.advance(3600)
    assert clock.pauses[:8] == pytest.approx([0.185] * 8)
    assert script.taken >= 9
    assert [type(event) for event in play.heard] == [StoreUnavailable, StoreRecovered]
    assert timedelta(seconds=1.4) < play.heard[1].after < timedelta(seconds=1.6)
    assert play.availability.is_working


async def test_an_error_of_our_own_is_logged_and_the_role_goes_on(play, clock, caplog):
    script, _ = await play(ZeroDivisionError("our own"), BackendError("refused"))
    await clock.advance(1)
    await clock.advance(1)
    assert script.taken == 3
    assert "the test met an unexpected error and goes on" in caplog.text


async def test_an_error_that_stays_the_same_is_logged_once_until_the_role_works_again(play, clock, caplog):
    caplog.set_level(logging.DEBUG)
    refused = [BackendError(f"row {number} is refused") for number in range(3)]
    await play(*refused, BackendError("no right"), timedelta(seconds=0), BackendError("no right"))
    for _ in range(6):
        await clock.advance(5)
    told = [record.exc_info[1] for record in caplog.records if record.levelno == logging.ERROR]
    assert list(map(str, told)) == ["row 0 is refused", "no right", "no right"]
    assert caplog.text.count("the test works again") == 2


async def test_a_lost_node_is_told_and_the_role_goes_on_at_once(play, clock):
    script, _ = await play(NodeLostError("lost"))
    assert play.lost == [1]
    assert script.taken == 2


async def test_a_node_that_is_lost_again_at_once_makes_growing_pauses(play, clock):
    _, loop = await play(*[NodeLostError("lost")] * 4, timedelta(0), NodeLostError("lost"))
    for _ in range(3):
        assert not loop.is_working
        await clock.advance(5)
    assert clock.pauses[:6] == [0.0, 0.1, 0.2, 0.4, 0.0, 0.0]


async def test_a_loop_that_was_ended_is_not_working(play, clock):
    _, loop = await play(timedelta(seconds=1), asyncio.CancelledError("of another future"))
    assert loop.is_working
    await clock.advance(1)
    assert not loop.is_working


def test_the_backoff_has_a_limit():
    assert backoff(1) == 0.1
    assert backoff(10_000) == 5.0


async def test_the_systems_clock_sleeps_until_the_time_or_the_event():
    clock = SystemClock()
    before = clock.monotonic()
    nobodys = asyncio.Event()
    await clock.sleep(0.01, until=nobodys)
    assert not nobodys.is_set()
    assert clock.monotonic() - before >= 0.009
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    await asyncio.wait_for(clock.sleep(None, until=event), 5)
    await asyncio.wait_for(clock.sleep(-1, until=asyncio.Event()), 5)
    assert 0 <= clock.random() < 1


async def test_hints_reach_the_part_that_they_concern(flaky, clock):
    heard = []
    listener = Listener(
        StoreAccess(flaky, Availability(bus=EventBus()), clock),
        on_jobs=lambda queue: heard.append(("jobs", queue)),
        on_control=lambda: heard.append(("control",)),
        on_schedules=lambda: heard.append(("schedules",)),
    )
    running = asyncio.create_task(listener.run())
    await clock.settle()
    await flaky.notify([Notification(topic=Topic.JOBS, subject="mail"), Notification(topic=Topic.CONTROL)])
    await flaky.notify([Notification(topic=Topic.SCHEDULES)])
    await clock.settle()
    assert heard == [("jobs", "mail"), ("control",), ("schedules",)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def listen(clock, play):
    """Listen to a store of the test's own."""
    running = []

    def listen(store):
        nothing = lambda *_: None  # noqa: E731 - nothing is told
        listener = Listener(
            StoreAccess(store, play.availability, clock),
            on_jobs=nothing,
            on_control=nothing,
            on_schedules=nothing,
        )
        running.append(asyncio.create_task(listener.run()))

    yield listen
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


class Deaf:
    """A store whose hints end at once; `away` and `error` are how it answers, and how they end."""

    def __init__(self, error=None, away=None):
        self.error, self.away = error, away
        self.listened = self.asked = 0

    async def listen(self):
        self.listened += 1
        if self.error is not None:
            raise self.error
        return
        yield

    async def queues(self):
        self.asked += 1
        if self.away is not None:
            raise self.away
        return []


@pytest.mark.parametrize("error", [None, BackendUnavailableError("deaf"), RuntimeError("damaged")])
async def test_a_store_that_is_deaf_is_listened_to_again_at_once_and_then_after_growing_pauses(
    listen, clock, caplog, error
):
    store = Deaf(error)
    listen(store)
    await clock.settle()
    assert store.listened == 2
    for _ in range(9):
        await clock.advance(clock.pauses[-1])
    assert clock.pauses[1:5] == [0.4, 0.8, 1.6, 3.2]
    assert clock.pauses[-1] == 15
    told = [record for record in caplog.records if "the worker polls" in record.message]
    assert len(told) == (0 if error is None else 1)


async def test_a_listener_waits_like_all_others_for_a_store_that_is_away_and_listens_at_once_when_it_is_back(
    listen, play, clock, caplog
):
    store = Deaf(BackendUnavailableError("deaf"), away=BackendUnavailableError("gone"))
    listen(store)
    await clock.settle()
    for _ in range(50):
        await clock.advance(0.185)
    assert store.listened == 1
    assert store.asked > 20
    assert [type(event) for event in play.heard] == [StoreUnavailable]
    store.error = store.away = None
    play.availability.mark_working(by="producer")
    await clock.settle()
    assert store.listened == 2
    assert "the worker polls" not in caplog.text


async def test_a_role_works_from_its_first_good_turn_to_the_next_bad_one(play, clock):
    _, loop = await play(BackendUnavailableError("gone"), timedelta(seconds=5), ZeroDivisionError("our own"))
    assert not loop.is_working
    await clock.advance(0.1)
    assert loop.is_working
    await clock.advance(5)
    assert not loop.is_working
    await clock.advance(0.1)
    assert loop.is_working


async def test_a_turn_that_gets_no_answer_for_long_does_not_work(play, clock):
    script, loop = await play(timedelta(seconds=1))
    assert loop.is_working
    answer = asyncio.Event()

    async def turn():
        await answer.wait()
        return timedelta(hours=1)

    script.turn = turn
    await clock.advance(1)
    await clock.advance(9)
    assert loop.is_working
    await clock.advance(1)
    assert not loop.is_working
    answer.set()
    await clock.settle()
    assert loop.is_working


async def test_the_pauses_of_all_roles_end_when_one_finds_the_store_back(play, clock):
    away = BackendUnavailableError("gone")
    script, _ = await play(away)
    other, loop = await play(away)
    assert (script.taken, other.taken) == (1, 1)
    loop.wake()
    await clock.settle()
    assert other.taken == 2
    assert play.availability.is_working
    assert script.taken == 2
    # Each rests once; nobody is woken who was not failing.
    assert clock.pauses.count(3600.0) == 2


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(0), asyncio.CancelledError("of another future")])
async def test_a_part_of_the_worker_that_ends_by_an_error_begins_again(clock, caplog, error):
    begun = []

    async def part():
        begun.append(1)
        if len(begun) == 1:
            raise error
        await asyncio.Event().wait()

    running = asyncio.create_task(keep_running("reporter", part, clock=clock))
    await clock.settle()
    await clock.advance(5)
    assert len(begun) == 2
    assert "the reporter was ended by an unexpected error and begins again" in caplog.text
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_part_that_ends_again_and_again_is_hopeless_and_one_that_worked_for_a_minute_is_not(clock, caplog):
    reasons, works_for = [], [0.0] * 11 + [60.0] + [0.0] * 12

    async def part():
        await clock.sleep(works_for.pop(0), until=asyncio.Event())
        raise RuntimeError("boom")

    running = asyncio.create_task(keep_running("settler", part, clock=clock, on_hopeless=reasons.append))
    while len(works_for) > 1:
        assert reasons == []
        await clock.advance(5)
    assert reasons == ["the settler has ended 12 times in a row, by RuntimeError"]
    assert len([record for record in caplog.records if record.exc_info]) == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_log_that_fails_does_not_end_a_role(play, clock):
    def fail(record):
        raise RuntimeError("no paper")

    logger = logging.getLogger("deeper_tasks")
    logger.addFilter(fail)
    try:
        script, _ = await play(ValueError("boom"), timedelta(hours=1))
        await clock.advance(5)
    finally:
        logger.removeFilter(fail)
    assert script.taken == 2
