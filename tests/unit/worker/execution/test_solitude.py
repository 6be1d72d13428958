"""The solitude: one attempt has its worker for itself, and no other waits for it for ever."""

import asyncio

import pytest

from deeper_tasks.domain.stop import Stop
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution.solitude import Solitude


class Place:
    """A worker's running attempts, and a solitude over them."""

    def __init__(self, clock, make_attempt):
        self.running = [make_attempt(), make_attempt()]
        self.mine, self.other = self.running
        self.is_stopping = False
        self.changes = []
        self.solitude = Solitude(
            running=lambda: self.running,
            clock=clock,
            is_stopping=lambda: self.is_stopping,
            on_change=lambda: self.changes.append(self.solitude.is_wanted),
        )
        self.clock = clock

    async def begin(self, attempt=None):
        beginning = asyncio.create_task(self.solitude.begin(attempt or self.mine))
        await self.clock.settle()
        return beginning


@pytest.fixture
async def make_attempt(bench):
    @bench.task
    async def noop():
        pass

    jobs = [await bench.claim(noop) for _ in range(2)]
    return iter([Attempt(job, claimed=0.0) for job in jobs]).__next__


@pytest.fixture
def place(clock, make_attempt):
    return Place(clock, make_attempt)


async def test_one_that_is_alone_begins_at_once(place):
    place.running = [place.mine]
    assert await place.solitude.begin(place.mine)
    assert place.solitude.is_wanted
    place.solitude.end()
    assert place.changes == [True, False]


async def test_it_begins_when_the_others_have_ended_and_nothing_starts_meanwhile(place, clock):
    beginning = await place.begin()
    assert place.changes == [True]
    await clock.advance(100)
    assert not beginning.done()
    place.running.remove(place.other)
    await clock.advance(1)
    assert await beginning


async def test_a_second_one_does_not_wait_for_the_first(place):
    beginning = await place.begin()
    assert not await place.solitude.begin(place.other)
    assert not beginning.done()
    beginning.cancel()


async def test_one_that_is_told_to_stop_waits_no_longer(place, clock):
    beginning = await place.begin()
    place.mine.tell_to_stop(Stop.CANCEL)
    await clock.advance(1)
    assert not await beginning
    assert place.changes == [True, False]


async def test_it_does_not_begin_in_a_worker_that_stops(place, clock):
    beginning = await place.begin()
    place.is_stopping = True
    place.running.remove(place.other)
    await clock.advance(1)
    assert not await beginning


async def test_one_that_is_cancelled_while_it_waits_lets_the_others_go_on(place, clock):
    beginning = await place.begin()
    beginning.cancel()
    await clock.settle()
    assert place.changes == [True, False]


async def test_one_that_ignores_its_timeout_is_not_waited_for(place, clock):
    beginning = await place.begin()
    place.other.tell_to_stop(Stop.TIMEOUT)
    await clock.advance(1)
    assert not beginning.done()
    place.other.ignored = 1
    await clock.advance(1)
    assert not await beginning
    assert place.solitude.is_obstructed
    assert place.changes == [True, False]
    # Nor is the worker held up for it once more.
    assert not await place.solitude.begin(place.mine)
    assert place.changes == [True, False]
    place.running.remove(place.other)
    assert await place.solitude.begin(place.mine)
