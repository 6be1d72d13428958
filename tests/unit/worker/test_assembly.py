"""The assembly: the parts of a worker, and those that it shares with the kit and with children in quarantine."""

import dataclasses

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.integrations.events import EventBus, WorkerStuck
from deeper_tasks.tasks import ExecutorKind, TaskRegistry
from deeper_tasks.testing.conformance.builders import new_job
from deeper_tasks.worker.assembly import WorkerParts
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.attempts.running_attempts import RunningAttempts
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.execution.executors.assembly import assemble_executors
from deeper_tasks.worker.execution.parts import assemble_execution
from deeper_tasks.worker.maintenance.maintenance import Maintenance
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.store_access import StoreAccess


def collaborators(**changes):
    given = Collaborators(backend=MemoryBackend(), registry=TaskRegistry(), bus=EventBus())
    return dataclasses.replace(given, **changes)


def settings():
    return WorkerSettings(queues={"mail": 2, "tenant-*": 1})


async def test_all_parts_of_a_worker_share_one_availability_and_the_running_attempts():
    parts = WorkerParts(collaborators(), settings())
    assert parts.execution.store is parts.store
    assert parts.execution.running is parts.consumers.running is parts.running
    assert {loop.name for loop in parts.vital} == {"consumer of mail", "consumer of tenant-*", "promoter"}


async def test_a_given_availability_is_used():
    ours = StoreAccess.of(collaborators())
    assert StoreAccess.of(collaborators(availability=ours.availability)).availability is ours.availability


async def test_without_an_executor_for_processes_their_tasks_run_in_the_threads():
    executors = assemble_executors(assemble_execution(collaborators(), settings()), threads=1)
    assert executors[ExecutorKind.PROCESS] is executors[ExecutorKind.THREAD]
    await executors[ExecutorKind.THREAD].close()


async def test_without_a_membership_nothing_rescues():
    assert "rescuer" not in Maintenance(collaborators(), settings()).roles
    assert "rescuer" in WorkerParts(collaborators(), settings()).maintenance.roles


async def test_a_role_that_the_worker_lacks_can_be_woken_without_effect():
    WorkerParts(collaborators(), settings()).loops.wake("a role of another store")


def test_an_attempt_is_found_in_whatever_group_it_runs():
    running = RunningAttempts()
    first, second = running.new_group(), running.new_group()
    one, two = (Attempt(new_job(), claimed=0.0) for _ in range(2))
    first["1"], second["2"] = one, two
    assert (running.get("1"), running.get("2"), running.get("3")) == (one, two, None)
    assert (len(running), running.all()) == (2, [one, two])


async def test_the_first_stop_gives_jobs_time_and_the_second_is_urgent():
    request = WorkerParts(collaborators(), settings()).stop_request
    request.stop()
    assert (request.is_set, request.is_urgent.is_set()) == (True, False)
    request.stop()
    assert request.is_urgent.is_set()


async def test_a_worker_that_stops_already_is_not_stuck():
    bus, heard = EventBus(), []
    bus.subscribe(heard.append)
    request = WorkerParts(collaborators(bus=bus), settings()).stop_request
    request.stop_stuck("all its slots are lost")
    request.stop_stuck("another reason")
    assert request.stuck_because == "all its slots are lost"
    assert [type(event) for event in heard] == [WorkerStuck]
