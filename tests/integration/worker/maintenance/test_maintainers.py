"""The rescuer and processes of this machine: one that has ended is known at once."""

import os
import subprocess
import sys
from datetime import timedelta

import msgspec
import pytest

from deeper_tasks.integrations.events import EventBus, JobRescued
from deeper_tasks.tasks import TaskRegistry
from deeper_tasks.testing.conformance.builders import put_running
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.liveness import process_scope
from deeper_tasks.worker.liveness.host import describe_node, is_known_dead
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.maintenance.maintainers import Rescuer
from deeper_tasks.worker.settings import WorkerSettings

SETTINGS = WorkerSettings(queues={"default": 2}, lease=timedelta(seconds=20))


@pytest.fixture
def process():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


def kill_without_reaping(process):
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


async def test_a_process_of_this_machine_that_has_ended_is_known_at_once(memory, clock, process):
    bus = EventBus()
    heard = []
    bus.subscribe(heard.append)
    membership = Membership(backend=memory, settings=SETTINGS)
    await membership.join()
    collaborators = Collaborators(backend=memory, registry=TaskRegistry(), bus=bus, clock=clock)
    rescuer = Rescuer(collaborators, SETTINGS, membership=membership)
    here = describe_node("worker", {"default": 1})
    node = msgspec.structs.replace(here, pid=process.pid, pid_started=process_scope.start_time(process.pid))
    await memory.register(node)
    await put_running(memory, node.id)
    await rescuer.turn()
    assert heard == []
    kill_without_reaping(process)
    # A zombie runs nothing any more.
    assert is_known_dead(node)
    await rescuer.turn()
    assert [type(event) for event in heard] == [JobRescued]
    process.communicate()
    assert is_known_dead(node)
