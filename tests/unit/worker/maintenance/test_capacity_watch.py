"""The capacity watch: a queue near its capacity is told once, by one worker of the fleet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from deeper_tasks.backends.protocol import Counts, NodeRecord, QueueCounts
from deeper_tasks.domain.state import State
from deeper_tasks.integrations.events import EventBus, QueueNearCapacity
from deeper_tasks.worker.liveness.host import describe_node
from deeper_tasks.worker.maintenance.capacity_watch import CapacityWatch

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=20)


class Fleet:
    """Workers, each with a watch of its own, that look at the same counts."""

    def __init__(self):
        self.told, self.records, self.watches = [], [], {}

    def join(self, name, capacity=10):
        node = msgspec.structs.replace(describe_node(name, {}, queue_capacity=capacity), id=name, host="elsewhere")
        joined = NOW + timedelta(minutes=len(self.records))
        self.records.append(NodeRecord(node=node, beat=1, busy=0, registered_at=joined, beat_at=NOW))
        bus = EventBus()
        bus.subscribe(lambda event: self.told.append((name, event.queue, event.pending)), QueueNearCapacity)
        self.watches[name] = CapacityWatch(capacity=capacity, lease=LEASE, node_id=lambda: name, bus=bus)

    def beat(self, *, but=""):
        self.records = [msgspec.structs.replace(each, beat=each.beat + (each.node.id != but)) for each in self.records]

    def leave(self, name):
        self.records = [each for each in self.records if each.node.id != name]

    def look(self, *names, **pending):
        queues = {
            queue: QueueCounts(by_state={State.PENDING: count}, ended_today={}) for queue, count in pending.items()
        }
        for name in names or self.watches:
            self.watches[name].look(Counts(queues=queues, nodes=tuple(self.records), now=NOW))
        told, self.told = self.told, []
        return told


@pytest.fixture
def fleet():
    return Fleet()


def test_it_is_told_at_80_percent_and_again_after_it_fell(fleet):
    fleet.join("a")
    assert fleet.look(mail=7) == []
    assert fleet.look(mail=8) == [("a", "mail", 8)]
    assert fleet.look(mail=30) == fleet.look(mail=8) == []
    assert fleet.look(mail=7) == []
    assert fleet.look(mail=9) == [("a", "mail", 9)]
    assert fleet.look() == []
    assert fleet.look(mail=10, other=8) == [("a", "mail", 10), ("a", "other", 8)]


@pytest.mark.parametrize(("capacity", "near", "eased"), [(1, 1, 0), (2, 2, 1), (5, 4, 3), (100, 80, 70)])
def test_small_capacities_are_reached_and_left(fleet, capacity, near, eased):
    fleet.join("a", capacity)
    assert fleet.look(mail=near - 1) == []
    assert len(fleet.look(mail=near)) == 1
    assert fleet.look(mail=eased + 1) == fleet.look(mail=near) == []
    assert fleet.look(mail=eased) == []
    assert len(fleet.look(mail=near)) == 1


def test_of_a_fleet_the_oldest_living_worker_tells(fleet):
    for name in "abc":
        fleet.join(name)
    for _ in range(3):
        assert fleet.look("c", "b", mail=8) == []
    assert fleet.look(mail=8) == [("a", "mail", 8)]
    for _ in range(3):
        fleet.beat()
        assert fleet.look(mail=8) == []
    # It was told, so another that takes its place says nothing.
    fleet.leave("a")
    assert fleet.look("b", "c", mail=9) == []
    assert fleet.look("b", "c", mail=1) == []
    assert fleet.look("b", "c", mail=9) == [("b", "mail", 9)]


def test_where_the_oldest_dies_before_it_told_the_next_one_tells(fleet):
    for name in "abc":
        fleet.join(name)
    for _ in range(3):
        assert fleet.look("b", "c", mail=8) == []
        fleet.beat(but="a")
    fleet.leave("a")
    assert fleet.look("c", "b", mail=8) == [("b", "mail", 8)]


def test_workers_that_were_given_another_capacity_tell_nothing_of_it(fleet):
    fleet.join("small", capacity=5)
    fleet.join("a")
    fleet.join("b")
    assert fleet.look(mail=8) == [("small", "mail", 8), ("a", "mail", 8)]
