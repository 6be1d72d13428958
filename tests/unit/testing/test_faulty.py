"""The faulty store: faults strike where, when and as often as they are told to, and nowhere else."""

import asyncio
import inspect
from datetime import timedelta

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.protocol import Backend, Compacting, Diagnosable, JobQuery, Notification, Topic
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.integrations.events import StoreRecovered, StoreUnavailable
from deeper_tasks.testing import BackendConformance, FaultyBackend
from deeper_tasks.testing.conformance.builders import new_job, new_node, put

HINT = Notification(topic=Topic.JOBS, subject="default")


class TestConformance(BackendConformance):
    """Without faults it is the store behind it, promise for promise."""

    @pytest.fixture
    async def backend(self):
        backend = FaultyBackend(MemoryBackend())
        await backend.open()
        yield backend
        await backend.close()


@pytest.fixture
def faulty():
    return FaultyBackend(MemoryBackend())


async def jobs_in(faulty):
    return (await faulty.backend.find(JobQuery())).total


async def strikes(faulty, number):
    """Return which of so many calls of `expire` failed, from 1."""
    failed = []
    for call in range(1, number + 1):
        try:
            await faulty.expire()
        except BackendUnavailableError:
            failed.append(call)
    return failed


def test_every_method_of_the_protocol_is_passed_on_by_its_name():
    methods = {name for name, _ in inspect.getmembers(Backend, inspect.isfunction) if not name.startswith("_")}
    assert methods <= vars(FaultyBackend.__mro__[1]).keys()


async def test_options_that_the_protocol_may_gain_are_passed_on():
    class Future(MemoryBackend):
        async def insert(self, jobs, *, connection=None, **options):
            return connection

        async def brand_new(self, word):
            return word

    faulty = FaultyBackend(Future())
    assert await faulty.insert([], connection="mine") == "mine"
    assert await faulty.brand_new("word") == "word"
    assert [method for method, _ in faulty.calls] == ["insert", "brand_new"]


def test_what_a_store_has_besides_is_there_without_a_look_through_the_proxy(tmp_path):
    faulty = FaultyBackend(SQLiteBackend(tmp_path / "tasks.db"))
    assert {"compact", "diagnose"} <= vars(faulty).keys()
    assert isinstance(faulty, Compacting)
    assert isinstance(faulty, Diagnosable)
    bare = FaultyBackend(MemoryBackend())
    assert not isinstance(bare, Compacting)
    assert not isinstance(bare, Diagnosable)


async def test_a_method_fails_before_the_store_has_the_call(faulty):
    job = new_job()
    with faulty.fail("insert") as fault:
        with pytest.raises(BackendUnavailableError, match=r"does not answer \(insert\)") as raised:
            await faulty.insert([job])
        assert raised.value.request_ids == (job.request_id,)
        await faulty.expire()
    assert (await jobs_in(faulty), fault.hits) == (0, 1)
    await faulty.insert([job])
    assert await jobs_in(faulty) == 1


async def test_a_reply_is_lost_after_the_store_did_it(faulty):
    job = new_job()
    faulty.fail("insert", times=1, is_reply_lost=True)
    with pytest.raises(BackendUnavailableError, match="its answer was lost") as raised:
        await faulty.insert([job])
    assert raised.value.request_ids == (job.request_id,)
    assert await jobs_in(faulty) == 1
    [again] = await faulty.insert([job])
    assert not again.is_new


async def test_a_fault_strikes_from_the_call_and_as_often_as_it_was_told(faulty):
    faulty.fail("expire", on_call=3)
    assert await strikes(faulty, 6) == [3]
    faulty.fail("expire", on_call=2, times=2)
    assert await strikes(faulty, 6) == [2, 3]
    fault = faulty.fail("expire", times=4)
    assert await strikes(faulty, 6) == [1, 2, 3, 4]
    assert (fault.is_over, fault.hits) == (True, 4)


async def test_a_chance_is_the_same_for_the_same_seed(faulty):
    def seeded(seed):
        store = FaultyBackend(MemoryBackend(), seed=seed)
        store.fail("expire", chance=0.3)
        return store

    first, again, other = [await strikes(seeded(seed), 200) for seed in (7, 7, 8)]
    assert first == again != other
    assert 20 < len(first) < 120


async def test_an_outage_is_of_every_method_until_it_is_over(faulty):
    with faulty.fail():
        for call in (faulty.open(), faulty.promote(), faulty.register(new_node()), faulty.queues()):
            with pytest.raises(BackendUnavailableError):
                await call
        await faulty.notify([HINT])
        await faulty.close()
    await faulty.open()


async def test_restore_ends_all_faults(faulty, wait_until):
    faulty.fail()
    faulty.fail("expire", chance=0.5)
    faulty.drop_notifications()
    faulty.restore()
    assert await strikes(faulty, 50) == []
    listening = faulty.listen()
    first = asyncio.ensure_future(anext(listening))
    await wait_until(lambda: faulty.backend._listeners._inboxes)
    await faulty.notify([HINT])
    assert await asyncio.wait_for(first, 30) == HINT
    await listening.aclose()
    assert not faulty.backend._listeners._inboxes


async def test_an_error_of_the_test_s_own_can_be_raised(faulty):
    faulty.fail("get", error=RuntimeError("odd"))
    with pytest.raises(RuntimeError, match="odd"):
        await faulty.get("x")


async def test_hints_are_lost(faulty, wait_until):
    listening = faulty.listen()
    first = asyncio.ensure_future(anext(listening))
    await wait_until(lambda: faulty.backend._listeners._inboxes)
    with faulty.drop_notifications():
        await faulty.notify([HINT])
        await faulty.backend.notify([HINT])
        for _ in range(20):
            await asyncio.sleep(0)
    await faulty.notify([Notification(topic=Topic.CONTROL)])
    assert (await asyncio.wait_for(first, 30)).topic is Topic.CONTROL
    await listening.aclose()


async def test_a_delay_waits_as_the_test_says():
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    faulty = FaultyBackend(MemoryBackend(), sleep=sleep)
    with faulty.delay("expire", seconds=timedelta(seconds=2)), faulty.delay(seconds=0.5):
        await faulty.expire()
        await faulty.queues()
    await faulty.expire()
    assert pauses == [2.0, 0.5, 0.5]


async def test_an_answer_is_held_until_the_fault_is_ended(faulty, wait_until):
    fault = faulty.hold("insert")
    inserting = asyncio.create_task(put(faulty))
    await wait_until(lambda: jobs_in(faulty))
    assert not inserting.done()
    fault.end()
    await asyncio.wait_for(inserting, 30)


async def test_the_calls_that_came_are_listed(faulty):
    job = new_job()
    await faulty.insert([job], atomic=False)
    await faulty.expire()
    assert [method for method, _ in faulty.calls] == ["insert", "expire"]
    [call] = faulty.called("insert")
    assert (call.args, call.options) == (([job],), {"atomic": False})


@pytest.mark.parametrize(
    ("method", "args", "options", "words"),
    [
        ("fail", ["inzert"], {}, "no method 'inzert'; there are beat, begin, cancel"),
        ("fail", ["insert"], {"on_call": 0}, "calls count from 1"),
        ("fail", ["insert"], {"times": 0}, "1 or more"),
        ("fail", ["insert"], {"chance": 1.5}, "at most 1"),
        ("delay", ["insert"], {"seconds": 1, "chance": 0}, "more than 0"),
        ("hold", ["inzert"], {}, "no method 'inzert'"),
        ("called", ["inzert"], {}, "no method 'inzert'"),
    ],
)
def test_a_fault_that_could_not_strike_is_refused(faulty, method, args, options, words):
    with pytest.raises(ValueError, match=words):
        getattr(faulty, method)(*args, **options)


async def test_an_application_meets_the_faults_and_the_kit_looks_past_them(kit):
    @kit.manager.task(name="shop.send")
    async def send():
        pass

    with kit.faults.fail("insert", is_reply_lost=True), pytest.raises(BackendUnavailableError):
        await send.enqueue()
    with kit.faults.fail():
        await kit.assert_enqueued(send, count=1)
        assert (await kit.drain()).completed == 1
    assert (await kit.manager.list_tasks()).total_entries == 1


async def test_a_real_worker_lives_through_an_outage(working, wait_until):
    faulty = FaultyBackend(MemoryBackend(), seed=3)
    async with BackgroundTaskManager(backend=faulty, poll_interval_seconds=0.05) as manager:
        news = []
        manager.subscribe(lambda event: news.append(type(event)), StoreUnavailable, StoreRecovered)

        @manager.task(name="shop.send")
        async def send(number: int):
            return number

        ids = await manager.enqueue_many([send.call(number) for number in range(50)])
        for method in ("claim", "settle", "promote", "beat"):
            faulty.fail(method, chance=0.3, times=20)
            faulty.fail(method, chance=0.3, times=5, is_reply_lost=True)
        outage = faulty.fail()
        async with working(manager):
            await wait_until(lambda: StoreUnavailable in news)
            outage.end()
            await wait_until(lambda: StoreRecovered in news)

            async def are_all_done():
                jobs = [await faulty.backend.get(job_id) for job_id in ids]
                return all(job.state is State.COMPLETED and job.attempt == 1 for job in jobs)

            await wait_until(are_all_done)
            faulty.restore()
