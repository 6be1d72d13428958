"""The membership: when a worker must not be sure any more that its jobs are its own."""

import time

import pytest

from deeper_tasks.worker.liveness.host import since_boot
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.settings import WorkerSettings

LEASE = 20.0


async def test_a_worker_is_in_doubt_a_lease_after_the_last_beat_that_was_answered(flaky):
    times = [100.0]
    membership = Membership(backend=flaky, settings=WorkerSettings(queues={"default": 1}), now=lambda: times[-1])
    await membership.join()
    times.append(100.0 + LEASE - 0.1)
    assert not membership.is_in_doubt
    # As after a sleep of the machine: of that its loop, and the timer of its beats, know nothing.
    times.append(100.0 + LEASE)
    assert membership.is_in_doubt
    membership.confirm(membership.now())
    assert not membership.is_in_doubt


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that counts its sleep")
def test_the_clock_counts_the_time_in_which_the_machine_was_suspended():
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= since_boot() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_system_without_such_a_clock_has_the_monotonic_one(monkeypatch):
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    before = time.monotonic()
    assert before <= since_boot() <= time.monotonic()


async def test_a_worker_that_is_taken_for_dead_while_it_beats_is_judged_by_its_beats_from_then_on(flaky):
    times = [100.0]
    membership = Membership(backend=flaky, settings=WorkerSettings(queues={"default": 1}), now=lambda: times[-1])
    scope = membership.node.scope
    # Its beats have come to nothing for so long that others were right.
    times.append(100.0 + LEASE)
    await membership.join_anew()
    assert membership.node.scope == scope
    await membership.join_anew()
    assert membership.node.scope == ""
    times.append(times[-1] + LEASE)
    await membership.join_anew()
    assert membership.node.scope == ""
