"""The settler: every end is written, in order, in batches, however long the store is away."""

import asyncio
from datetime import timedelta

import pytest

from deeper_tasks.backends.availability import Availability
from deeper_tasks.domain.job import ErrorReport
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.integrations.events import EventBus, StoreRecovered, StoreUnavailable
from deeper_tasks.testing.conformance.builders import join, new_token, only, put_many, take
from deeper_tasks.worker.settling.settler import MOST_TOGETHER, Settler
from deeper_tasks.worker.store_access import StoreAccess


class Ends:
    """A settler at work, and what it told."""

    def __init__(self, backend, clock):
        self.told = []
        self.events = []
        bus = EventBus()
        bus.subscribe(self.events.append)
        self.availability = Availability(bus=bus, monotonic=clock.monotonic, random=clock.random)
        self.settler = Settler(
            StoreAccess(backend, self.availability, clock),
            on_settled=lambda answered: self.told.extend((job.id, state) for job, _, state in answered),
            on_stray_ended=lambda job: self.told.append((job.id, job.task, job.queue, job.attempt, job.cancel_reason)),
        )
        self.running = asyncio.create_task(self.settler.run())

    def put(self, jobs, end=End.COMPLETE):
        for job in jobs:
            self.settler.put(job, Settlement(id=job.id, token=job.token, end=end))


@pytest.fixture
async def ends(flaky, clock):
    ends = Ends(flaky, clock)
    await clock.settle()
    yield ends
    ends.running.cancel()
    await asyncio.gather(ends.running, return_exceptions=True)


async def claimed(backend, number):
    node = await join(backend)
    await put_many(backend, number)
    jobs = []
    while len(jobs) < number:
        jobs += await take(backend, node, limit=500)
    return jobs


def sizes(flaky):
    return [len(args[0]) for args, _ in flaky.called("settle")]


async def test_one_end_is_written_at_once_and_told(ends, flaky):
    [job] = await claimed(flaky, 1)
    ends.put([job])
    await ends.settler.wait_until_idle()
    assert ends.told == [(job.id, State.COMPLETED)]
    assert ends.settler.unsettled == 0
    assert sizes(flaky) == [1]


async def test_what_gathered_during_a_write_is_the_next_batch(ends, flaky, clock):
    jobs = await claimed(flaky, 20)
    gate = flaky.hold("settle")
    ends.put(jobs[:1])
    await clock.settle()
    ends.put(jobs[1:])
    assert ends.settler.unsettled == 20
    gate.end()
    await ends.settler.wait_until_idle()
    assert sizes(flaky) == [1, 19]
    assert [job_id for job_id, _ in ends.told] == [job.id for job in jobs]


async def test_a_batch_has_at_most_so_many(ends, flaky):
    jobs = await claimed(flaky, MOST_TOGETHER + 1)
    ends.put(jobs)
    await ends.settler.wait_until_idle()
    assert sizes(flaky) == [MOST_TOGETHER, 1]
    assert len(ends.told) == len(jobs)


async def test_ends_are_kept_in_order_while_the_store_is_gone(ends, flaky, clock):
    jobs = await claimed(flaky, 3)
    flaky.fail("settle")
    ends.put(jobs[:2])
    await clock.settle()
    pauses = list(clock.pauses)
    for _ in range(3):
        await clock.advance(clock.pauses[-1])
    assert clock.pauses[len(pauses) - 1 :] == pytest.approx([0.185] * 4)
    ends.put(jobs[2:])
    assert ends.settler.unsettled == 3
    assert ends.told == []
    flaky.restore()
    await clock.advance(5)
    await ends.settler.wait_until_idle()
    assert [job_id for job_id, _ in ends.told] == [job.id for job in jobs]


async def test_the_store_going_and_coming_back_is_told_once_each(ends, flaky, clock):
    [job] = await claimed(flaky, 1)
    flaky.fail("settle")
    ends.put([job])
    await clock.settle()
    for _ in range(4):
        await clock.advance(5)
    flaky.restore()
    await clock.advance(5)
    await ends.settler.wait_until_idle()
    await clock.advance(1)
    ends.availability.mark_working(by="another")
    assert [type(event) for event in ends.events] == [StoreUnavailable, StoreRecovered]


async def test_the_pause_ends_when_another_finds_the_store_back(ends, flaky, clock):
    [job] = await claimed(flaky, 1)
    flaky.fail("settle")
    ends.put([job])
    await clock.settle()
    assert ends.settler.ends == {(job.id, job.token)}
    flaky.restore()
    ends.availability.mark_working(by="another")
    await clock.settle()
    await ends.settler.wait_until_idle()
    assert [job_id for job_id, _ in ends.told] == [job.id]
    assert ends.settler.ends == set()


async def test_a_lost_answer_changes_nothing(ends, flaky, clock):
    [job] = await claimed(flaky, 1)
    flaky.fail("settle", times=1, is_reply_lost=True)
    ends.put([job], End.SNOOZE)
    await clock.settle()
    await clock.advance(1)
    await ends.settler.wait_until_idle()
    assert ends.told == [(job.id, State.SCHEDULED)]
    assert (await flaky.get(job.id)).attempt == 0


async def test_a_refused_end_is_told_and_harms_no_neighbour(ends, flaky):
    first, second = await claimed(flaky, 2)
    ends.settler.put(first, Settlement(id=first.id, token=new_token(), end=End.COMPLETE))
    ends.put([second])
    await ends.settler.wait_until_idle()
    assert ends.told == [(first.id, None), (second.id, State.COMPLETED)]


async def test_nothing_is_told_of_an_end_whose_answer_was_lost_and_whose_job_was_claimed_again(ends, flaky, clock):
    first, second = await claimed(flaky, 2)
    flaky.fail("settle", times=1, is_reply_lost=True)
    ends.put([first, second], End.RELEASE)
    await clock.settle()
    other = await join(flaky)
    again = await take(flaky, other)
    assert [job.id for job in again] == [first.id]
    await clock.advance(1)
    await ends.settler.wait_until_idle()
    assert ends.told == [(second.id, State.PENDING)]
    assert (await flaky.get(first.id)).node == other


async def test_nothing_is_told_of_an_end_that_may_be_stored_since_before_the_settler_had_it(ends, flaky):
    [job] = await claimed(flaky, 1)
    ends.settler.put(job, Settlement(id=job.id, token=new_token(), end=End.RETRY), is_repeat=True)
    await ends.settler.wait_until_idle()
    assert ends.told == []


async def test_a_refusal_is_told_again_after_an_answer_was_lost(ends, flaky, clock):
    jobs = await claimed(flaky, 2)
    flaky.fail("settle", times=1, is_reply_lost=True)
    ends.put(jobs[:1])
    await clock.settle()
    await clock.advance(1)
    await ends.settler.wait_until_idle()
    ends.settler.put(jobs[1], Settlement(id=jobs[1].id, token=new_token(), end=End.COMPLETE))
    await ends.settler.wait_until_idle()
    assert ends.told == [(jobs[0].id, State.COMPLETED), (jobs[1].id, None)]


async def test_two_ends_of_one_job_are_written_apart_and_each_is_told_its_own_state(ends, flaky, clock):
    [job] = await claimed(flaky, 1)
    lost = Settlement(id=job.id, token=new_token(), end=End.COMPLETE)
    gate = flaky.hold("settle")
    ends.put(await claimed(flaky, 1))
    await clock.settle()
    ends.settler.put(job, lost)
    ends.put([job], End.RELEASE)
    gate.end()
    await ends.settler.wait_until_idle()
    assert ends.told[1:] == [(job.id, None), (job.id, State.PENDING)]
    assert sizes(flaky) == [1, 1, 1]


async def test_nobody_is_told_of_a_job_that_was_in_nobodys_hands(ends, flaky):
    [job] = await claimed(flaky, 1)
    ends.settler.forget(Settlement(id=job.id, token=job.token, end=End.RELEASE))
    await ends.settler.wait_until_idle()
    assert ends.told == []
    assert (await flaky.get(job.id)).state is State.PENDING


async def test_the_end_is_told_of_a_job_in_nobodys_hands_whose_cancel_was_requested(ends, flaky):
    first, second = await claimed(flaky, 2)
    await flaky.cancel(only(first.id), reason="enough")
    for job in (first, second):
        ends.settler.forget(Settlement(id=job.id, token=job.token, end=End.RELEASE))
    await ends.settler.wait_until_idle()
    assert ends.told == [(first.id, "shop.mails.send", "default", 1, "enough")]


@pytest.fixture
def refuse(flaky):
    """Have the store refuse the settlements of which this is true."""
    settle = flaky.backend.settle

    def refuse(is_refused):
        async def settle_if_it_may(settlements, *, now=None):
            if any(map(is_refused, settlements)):
                raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")
            return await settle(settlements, now=now)

        flaky.backend.settle = settle_if_it_may

    return refuse


BAD = ErrorReport(kind="Bad", message="bad")


def of(job, end, **fields):
    return Settlement(id=job.id, token=job.token, end=end, **fields)


async def test_a_result_that_the_store_refuses_is_left_out_with_the_reason_and_keeps_no_other_back(
    ends, flaky, refuse, caplog
):
    jobs = await claimed(flaky, 3)
    refuse(lambda settlement: settlement.result == '"bad"')
    for job, result in zip(jobs, ('"good"', '"bad"', '"good"'), strict=True):
        ends.settler.put(job, of(job, End.COMPLETE, result=result))
    await ends.settler.wait_until_idle()
    assert ends.told == [(job.id, State.COMPLETED) for job in jobs]
    stored = [await flaky.get(job.id) for job in jobs]
    assert [job.result for job in stored] == ['"good"', None, '"good"']
    assert stored[1].result_omitted == "the result or the error of this attempt could not be stored"
    assert "could not be stored" in caplog.text


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (End.RETRY, State.RETRYABLE),
        (End.FAIL, State.FAILED),
        (End.DISCARD, State.DISCARDED),
        (End.CANCEL, State.CANCELLED),
    ],
)
async def test_an_error_that_the_store_refuses_is_replaced_by_a_plain_one_of_the_same_end(
    ends, flaky, refuse, end, state
):
    jobs = await claimed(flaky, 3)
    refuse(lambda settlement: settlement.error == BAD)
    for job, error in zip(jobs, (None, None, BAD), strict=True):
        ends.settler.put(job, of(job, end, error=error, delay=timedelta(minutes=5), ran_for=timedelta(seconds=1)))
    await ends.settler.wait_until_idle()
    assert ends.told == [(job.id, state) for job in jobs]
    stored = await flaky.get(jobs[2].id)
    assert [(error.kind, error.message) for error in stored.errors] == [
        ("NotStored", "the result or the error of this attempt could not be stored")
    ]
    [plain] = flaky.called("settle")[-1].args[0]
    assert (plain.delay, plain.ran_for) == (timedelta(minutes=5), timedelta(seconds=1))


async def test_a_job_whose_errors_cannot_be_added_to_fails_and_is_not_run_for_ever(ends, flaky, refuse):
    [job] = await claimed(flaky, 1)
    refuse(lambda settlement: settlement.error is not None)
    ends.settler.put(job, of(job, End.RETRY, error=BAD))
    await ends.settler.wait_until_idle()
    assert ends.told == [(job.id, State.FAILED)]


async def test_an_end_that_cannot_be_told_is_stored_all_the_same_and_the_next_ones_are_written(ends, flaky, caplog):
    first, second = await claimed(flaky, 2)
    tell = ends.settler._on_settled

    def fail_once(answered):
        ends.settler._on_settled = tell
        raise RuntimeError("no ears")

    ends.settler._on_settled = fail_once
    ends.put([first])
    await ends.settler.wait_until_idle()
    ends.put([second])
    await ends.settler.wait_until_idle()
    assert ends.told == [(second.id, State.COMPLETED)]
    assert (await flaky.get(first.id)).state is State.COMPLETED
    assert "could not be reported" in caplog.text


async def test_an_end_that_can_never_be_written_is_dropped_in_the_end(ends, flaky, caplog):
    [job] = await claimed(flaky, 1)
    flaky.fail("settle", error=ValueError("never"))
    ends.put([job])
    await asyncio.wait_for(ends.settler.wait_until_idle(), 10)
    assert ends.settler.unsettled == 0
    assert not ends.running.done()


async def test_an_end_whose_row_another_transaction_holds_keeps_nobody_back_and_is_written_later(
    ends, flaky, clock, monkeypatch
):
    jobs = await claimed(flaky, 3)
    held = {jobs[1].id}
    settle = flaky.settle

    async def settle_around(settlements):
        locked = tuple(one.id for one in settlements if one.id in held)
        await settle([one for one in settlements if one.id not in held])
        if locked:
            raise BackendUnavailableError("a row is held", job_ids=locked)
        return await settle(settlements)

    monkeypatch.setattr(flaky, "settle", settle_around)
    ends.put(jobs)
    await clock.settle()
    assert ends.told == [(jobs[0].id, State.COMPLETED), (jobs[2].id, State.COMPLETED)]
    assert ends.settler.unsettled == 1
    assert ends.events == []
    await clock.advance(2)
    assert len(ends.told) == 2
    held.clear()
    await clock.advance(2)
    assert ends.told[2:] == [(jobs[1].id, State.COMPLETED)]
    assert not ends.settler.ends
    await asyncio.wait_for(ends.settler.wait_until_idle(), 5)
