"""The joining of a worker: a stop during a try ends the pause that would follow."""

import asyncio

import pytest

from deeper_tasks.backends.availability import Availability
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.integrations.events import EventBus
from deeper_tasks.worker.clock import SystemClock
from deeper_tasks.worker.liveness.joining import Joining


class Refusing:
    """A membership that the worker is told to stop in the middle of joining."""

    node_id = "node"

    def __init__(self, error):
        self.error = error

    async def join(self):
        self.stop()
        raise self.error

    join_anew = join

    def lose(self):
        """Nothing is held."""


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("join", BackendUnavailableError("away")),
        ("rejoin", BackendUnavailableError("away")),
        ("rejoin", ValueError("refused")),
    ],
)
async def test_a_stop_in_the_middle_of_a_try_is_followed_by_no_pause(method, error):
    paused = []

    class Clock(SystemClock):
        async def sleep(self, seconds, *, until):
            if not until.is_set():
                paused.append(seconds)

    membership = Refusing(error)
    joining = Joining(
        membership=membership,
        availability=Availability(bus=EventBus()),
        clock=Clock(),
        on_lost=lambda: None,
        on_joined=lambda: None,
    )
    membership.stop = joining.stop
    async with asyncio.timeout(10):
        await getattr(joining, method)()
    assert not paused
