"""The news: whatever ends a job is told by one event, with its task, queue and attempt."""

from datetime import timedelta

import pytest

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import EXPIRED, ErrorReport
from deeper_tasks.domain.settlement import End, MovedJob, Settlement, worker_lost
from deeper_tasks.domain.state import State
from deeper_tasks.integrations.events import (
    EventBus,
    JobCancelled,
    JobCompleted,
    JobDiscarded,
    JobExpired,
    JobFailed,
    ResultOmitted,
    SettlementRefused,
)
from deeper_tasks.testing.conformance.builders import BOOM, NOW, SECOND, join, put_running
from deeper_tasks.worker.execution.rolling_deploy import RollingDeploy
from deeper_tasks.worker.settling.settlement_events import announce, announce_end

ENDS = (JobCompleted, JobFailed, JobDiscarded, JobCancelled)
LOST = worker_lost("node")


@pytest.fixture
def heard():
    return []


@pytest.fixture
def bus(heard):
    """Hear each of the four ends by a subscription of its own, as counters of dead letters do."""
    bus = EventBus()
    for kind in ENDS:
        bus.subscribe(heard.append, kind)
    return bus


@pytest.mark.parametrize(
    ("state", "error", "kind"),
    [
        (State.FAILED, EXPIRED, JobExpired),
        (State.FAILED, BOOM, JobFailed),
        (State.DISCARDED, LOST, JobDiscarded),
        (State.CANCELLED, LOST, JobCancelled),
    ],
)
def test_the_end_of_a_job_without_its_worker_is_told_once(bus, heard, state, error, kind):
    job = MovedJob(
        id=JobId("1"), state=state, task="shop.pay", queue="till", attempt=3, error=error, cancel_reason="enough"
    )
    announce_end(bus, job)
    [event] = heard
    assert type(event) is kind
    assert (event.job_id, event.task, event.queue, event.attempt) == ("1", "shop.pay", "till", 3)
    assert event.reason == "enough" if kind is JobCancelled else event.error == error


@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING])
def test_of_a_job_that_goes_on_no_end_is_told(bus, heard, state):
    announce_end(bus, MovedJob(id=JobId("1"), state=state, task="shop.pay", queue="till", attempt=3, error=LOST))
    assert heard == []


async def test_an_expiry_that_a_worker_finds_is_told_as_one_that_the_store_finds(bus, heard, store):
    job = await put_running(store, await join(store))
    announce(bus, [(job, Settlement(id=job.id, token=job.token, end=End.FAIL, error=EXPIRED), State.FAILED)])
    announce_end(bus, MovedJob(id=job.id, state=State.FAILED, task=job.task, queue=job.queue, attempt=1, error=EXPIRED))
    assert type(heard[0]) is JobExpired
    assert heard[0] == heard[1]


async def test_a_handler_that_fails_with_words_of_an_expiry_has_not_expired(bus, heard, store):
    job = await put_running(store, await join(store))
    failed = Settlement(id=job.id, token=job.token, end=End.FAIL, error=EXPIRED, ran_for=SECOND)
    announce(bus, [(job, failed, State.FAILED)])
    assert [type(event) for event in heard] == [JobFailed]


async def test_a_task_that_nobody_knew_for_its_grace_is_told_as_failed(bus, heard, store):
    job = await put_running(store, await join(store), now=NOW, task="shop.pay", queue="till")
    settlement = RollingDeploy(unknown_grace=timedelta(0), unfit_grace=timedelta(0), bus=bus).unknown(job)
    announce(bus, [(job, settlement, State.FAILED)])
    [event] = heard
    assert (type(event), event.task, event.queue, event.attempt) == (JobFailed, "shop.pay", "till", 1)
    assert event.error == ErrorReport(kind="TaskNotFoundError", message=settlement.error.message)


async def test_an_omitted_result_is_an_event_only_of_a_settlement_that_the_store_accepted(store):
    bus, heard = EventBus(), []
    for kind in (JobCompleted, ResultOmitted, SettlementRefused):
        bus.subscribe(heard.append, kind)
    job = await put_running(store, await join(store))
    completed = Settlement(id=job.id, token=job.token, end=End.COMPLETE, ran_for=SECOND, result_omitted="too large")
    announce(bus, [(job, completed, None)])
    announce(bus, [(job, completed, State.COMPLETED)])
    assert [type(event) for event in heard] == [SettlementRefused, ResultOmitted, JobCompleted]
