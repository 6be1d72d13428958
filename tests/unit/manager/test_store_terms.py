"""A store that lacks a role, or makes its own ids, says so before anything is done."""

import pytest
from msgspec.structs import replace

from deeper_tasks import BackgroundTaskManager, current_job
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.errors import BackendUnavailableError, UnsupportedError

ID = "0190a4b2-7c3d-7e5f-8a9b-0c1d2e3f4a5b"


class OtherSystemsBackend(MemoryBackend):
    """A store in another system's tables: no schedules, no progress, ids of its own."""

    capabilities = replace(MemoryBackend.capabilities, roles=frozenset(), makes_ids=True, can_repeat_insert=False)

    async def schedules(self, **_):
        raise AssertionError("this store has no schedules")

    async def report(self, *_, **__):
        raise AssertionError("this store has no progress")


@pytest.fixture
async def manager():
    manager = BackgroundTaskManager(backend=OtherSystemsBackend())
    await manager.open()
    yield manager
    await manager.close()


async def test_a_recurring_task_is_refused_where_the_store_keeps_no_schedules(manager):
    with pytest.raises(
        UnsupportedError, match=r"'shop\.tick' is recurring, and the store 'OtherSystemsBackend' keeps no"
    ):

        @manager.task(name="shop.tick", cron="@hourly")
        def tick() -> None: ...


@pytest.mark.parametrize(
    "ask",
    [
        lambda manager: manager.list_recurring_tasks(),
        lambda manager: manager.list_removed_recurring_tasks(),
        lambda manager: manager.get_recurring_task("tick"),
        lambda manager: manager.pause_recurring_task("tick"),
    ],
)
async def test_each_call_about_recurring_tasks_names_the_store_and_the_way_out(manager, ask):
    with pytest.raises(UnsupportedError, match=r"'OtherSystemsBackend' keeps no schedules: use a store that does"):
        await ask(manager)


async def test_an_id_of_the_callers_is_refused_where_the_store_makes_ids(manager):
    @manager.task(name="shop.send")
    def send() -> None: ...

    with pytest.raises(UnsupportedError, match="makes the ids of its jobs itself; leave it out"):
        await send.with_options(task_id=ID).enqueue()
    assert await manager.backend.find_ids([""], limit=1) == [[]]


async def test_an_enqueue_is_sent_once_where_the_store_knows_no_requests(manager, monkeypatch):
    @manager.task(name="shop.send")
    def send() -> None: ...

    sent = []

    async def insert(jobs, **_):
        sent.append(jobs)
        raise BackendUnavailableError("the answer was lost", request_ids=tuple(job.request_id for job in jobs))

    monkeypatch.setattr(manager.backend, "insert", insert)
    with pytest.raises(BackendUnavailableError, match="look for the jobs before you enqueue them again") as raised:
        await send.with_options(enqueue_patience_seconds=30).enqueue()
    assert raised.value.request_ids == ()
    assert len(sent) == 1


async def test_a_worker_runs_jobs_and_warns_once_of_progress_that_is_dropped(manager, working, caplog):
    @manager.task(name="shop.send")
    async def send() -> int:
        current_job().log("sending")
        current_job().progress(0.5)
        return 42

    async with working(manager):
        for _ in range(2):
            assert await manager.result(await send.enqueue(), timeout=30) == 42
    [warning] = [line for line in caplog.messages if line.startswith("progress and log lines of jobs are dropped")]
    assert "'OtherSystemsBackend' keeps none; use a store that does" in warning


async def test_scheduling_a_task_is_refused_and_leaves_nothing(manager):
    @manager.task(name="shop.send")
    def send() -> None: ...

    with pytest.raises(UnsupportedError, match=r"'OtherSystemsBackend' keeps no schedules: use a store that does"):
        await manager.schedule_recurring_task("nightly", "shop", "send", cron_expression="@hourly")
    assert await manager.backend.find_ids([""], limit=1) == [[]]
