"""The scheduler registers what the code declares, and fires what is due, whatever befalls a single entry."""

import asyncio
import inspect
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from deeper_tasks.backends.protocol import Retention
from deeper_tasks.domain.cron import Recurrence, parse_recurrence
from deeper_tasks.domain.ids import derived_id
from deeper_tasks.domain.schedule import MissedRuns, Schedule
from deeper_tasks.domain.schedule_run import RunOutcome
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.integrations.events import EventBus, ScheduleFired, ScheduleRepaired
from deeper_tasks.tasks import TaskRegistry, make_task
from deeper_tasks.testing.conformance.builders import DAY, HOUR, MINUTE, every_job, new_job
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.maintenance.scheduler import Scheduler
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.worker import Worker

POLL = timedelta(seconds=1)
AT_ONCE = timedelta(0)
SETTINGS = WorkerSettings(queues={"default": 2}, poll_interval=POLL)


@pytest.fixture
def bus():
    bus = EventBus()
    bus.heard = []
    bus.subscribe(bus.heard.append)
    return bus


async def put_schedule(backend, name="nightly", expression="@every 10s", **fields):
    schedule = Schedule(name=name, recurrence=parse_recurrence(expression), spec=new_job().spec, **fields)
    now = (await backend.schedules()).now
    return await backend.put_schedule(schedule, now=now - timedelta(seconds=15))


async def test_the_scheduler_fires_what_is_due_once_and_tells_it(store, bus):
    await put_schedule(store)
    scheduler = Scheduler(backend=store, settings=SETTINGS, bus=bus)
    assert await scheduler.turn() == AT_ONCE
    assert await scheduler.turn() <= POLL
    [fired] = bus.heard
    assert isinstance(fired, ScheduleFired)
    assert fired.name == "nightly"
    assert [job.id for job in await every_job(store)] == list(fired.jobs)


async def test_a_run_that_is_held_back_is_told_with_its_reason(store, bus):
    for name in ("first", "second"):
        await put_schedule(store, name=name, unique=Unique(key="given:report"))
    await Scheduler(backend=store, settings=SETTINGS, bus=bus).turn()
    told = {event.name: (len(event.jobs), event.held_back) for event in bus.heard}
    assert told == {"first": (1, ()), "second": (0, (RunOutcome.SKIPPED_UNIQUE,))}


async def test_two_schedulers_fire_one_run_once(store):
    await put_schedule(store)
    buses = [EventBus(), EventBus()]
    heard = []
    for each in buses:
        each.subscribe(heard.append)
    schedulers = [Scheduler(backend=store, settings=SETTINGS, bus=each) for each in buses]
    for scheduler in (*schedulers, *schedulers):
        await scheduler.turn()
    assert len(heard) == 1
    assert len(await every_job(store)) == 1


async def test_the_scheduler_sleeps_until_the_next_run(store, bus):
    scheduler = Scheduler(backend=store, settings=SETTINGS, bus=bus)
    assert await scheduler.turn() == POLL
    now = (await store.schedules()).now
    schedule = Schedule(name="soon", recurrence=parse_recurrence("@every 1s"), spec=new_job().spec)
    await store.put_schedule(schedule, now=now - timedelta(milliseconds=500))
    assert AT_ONCE < await scheduler.turn() <= timedelta(milliseconds=500)
    assert bus.heard == []


async def test_a_next_run_impossibly_far_ahead_is_repaired_and_told(store, bus):
    now = (await store.schedules()).now
    schedule = Schedule(name="nightly", recurrence=parse_recurrence("@daily"), spec=new_job().spec)
    await store.put_schedule(schedule, now=now + 365 * DAY)
    scheduler = Scheduler(backend=store, settings=SETTINGS, bus=bus)
    await scheduler.turn()
    [repaired] = bus.heard
    assert isinstance(repaired, ScheduleRepaired)
    assert repaired.next_run <= now + DAY < repaired.was
    assert await every_job(store) == []


async def test_an_entry_that_cannot_be_read_in_its_zone_does_not_stop_the_others(store, bus, caplog):
    now = (await store.schedules()).now
    broken = Schedule(name="a", recurrence=parse_recurrence("0 3 * * *"), spec=new_job().spec)
    await store.put_schedule(broken, now=now - 2 * DAY)
    await put_schedule(store, "b")
    schedules = store.schedules

    async def from_another_machine(**_):
        book = await schedules()
        zone = Recurrence(expression="0 3 * * *", timezone="Mars/Olympus")
        entries = tuple(
            msgspec.structs.replace(entry, schedule=msgspec.structs.replace(entry.schedule, recurrence=zone))
            if entry.schedule.name == "a"
            else entry
            for entry in book.entries
        )
        return msgspec.structs.replace(book, entries=entries)

    store.schedules = from_another_machine
    await Scheduler(backend=store, settings=SETTINGS, bus=bus).turn()
    assert [event.name for event in bus.heard] == ["b"]
    assert "'a'" in caplog.text


async def test_an_entry_that_is_never_due_does_not_stop_the_others_and_is_told_once(store, bus, caplog):
    now = (await store.schedules()).now
    await put_schedule(store, "b")
    await put_schedule(store, "c", "@every 1h")
    entries = (await store.schedules()).entries
    never = Recurrence(expression="0 6 */15 * mon#2")
    schedules = store.schedules

    async def from_an_older_program(**_):
        book = await schedules()
        schedule = msgspec.structs.replace(entries[0].schedule, name="a", recurrence=never)
        damaged = msgspec.structs.replace(entries[0], schedule=schedule, next_run=now - DAY)
        return msgspec.structs.replace(book, entries=(damaged, *book.entries))

    store.schedules = from_an_older_program
    scheduler = Scheduler(backend=store, settings=SETTINGS, bus=bus)
    assert await scheduler.turn() == AT_ONCE
    assert AT_ONCE < await scheduler.turn() <= POLL
    assert [event.name for event in bus.heard] == ["b"]
    assert caplog.text.count("the recurring task 'a' cannot be fired here") == 1
    assert "'0 6 */15 * mon#2' is never due" in caplog.text


async def test_an_entry_whose_firing_raises_does_not_stop_the_others(flaky, bus, caplog):
    for name in ("a", "b", "c"):
        await put_schedule(flaky, name)
    fire = flaky.backend.fire

    async def fail_for_b(firing, **fields):
        if firing.name == "b":
            raise RuntimeError("of the store's own")
        return await fire(firing, **fields)

    flaky.backend.fire = fail_for_b
    scheduler = Scheduler(backend=flaky, settings=SETTINGS, bus=bus)
    assert await scheduler.turn() == AT_ONCE
    assert [event.name for event in bus.heard] == ["a", "c"]
    assert await scheduler.turn() > AT_ONCE
    assert caplog.text.count("the recurring task 'b' cannot be fired here") == 1
    flaky.backend.fire = fire
    await scheduler.turn()
    assert [event.name for event in bus.heard] == ["a", "c", "b"]
    flaky.backend.fire = fail_for_b
    await flaky.remove_schedule("b")
    await put_schedule(flaky, "b")
    await scheduler.turn()
    assert caplog.text.count("the recurring task 'b' cannot be fired here") == 2


async def test_a_store_that_is_gone_ends_the_turn_and_is_left_to_the_loop(flaky, bus):
    await put_schedule(flaky)
    flaky.fail("fire")
    scheduler = Scheduler(backend=flaky, settings=SETTINGS, bus=bus)
    with pytest.raises(BackendUnavailableError):
        await scheduler.turn()
    flaky.restore()
    await scheduler.turn()
    assert [event.name for event in bus.heard] == ["nightly"]


async def test_a_run_that_was_changed_after_it_was_planned_is_planned_again(flaky, bus):
    await put_schedule(flaky)
    schedules = flaky.backend.schedules

    async def then_a_deploy(**_):
        book = await schedules()
        [entry] = book.entries
        changed = msgspec.structs.replace(entry.schedule, spec=new_job(arguments="[[2],{}]").spec)
        await flaky.put_schedule(changed)
        flaky.backend.schedules = schedules
        return book

    flaky.backend.schedules = then_a_deploy
    scheduler = Scheduler(backend=flaky, settings=SETTINGS, bus=bus)
    assert await scheduler.turn() == AT_ONCE
    assert (bus.heard, await every_job(flaky)) == ([], [])
    await scheduler.turn()
    assert [job.arguments for job in await every_job(flaky)] == ["[[2],{}]"]


async def test_what_the_code_declares_is_registered_once_before_anything_fires(flaky, bus):
    async def declare():
        flaky.calls.append(("declare", (), {}))

    scheduler = Scheduler(backend=flaky, settings=SETTINGS, bus=bus, declare=declare)
    await scheduler.turn()
    await scheduler.turn()
    assert [name for name, *_ in flaky.calls] == ["declare", "schedules", "schedules"]


async def test_what_the_code_declares_is_registered_when_the_store_is_back(flaky, bus):
    tries = []

    async def declare():
        tries.append("try")
        await flaky.schedules()

    flaky.fail("schedules")
    scheduler = Scheduler(backend=flaky, settings=SETTINGS, bus=bus, declare=declare)
    with pytest.raises(BackendUnavailableError):
        await scheduler.turn()
    flaky.restore()
    await scheduler.turn()
    await scheduler.turn()
    assert len(tries) == 2


async def test_a_declaration_that_cannot_be_registered_is_told_and_does_not_stop_the_others(flaky, bus, caplog):
    async def declare():
        raise ValueError("too large")

    await put_schedule(flaky)
    scheduler = Scheduler(backend=flaky, settings=SETTINGS, bus=bus, declare=declare)
    await scheduler.turn()
    await scheduler.turn()
    assert [event.name for event in bus.heard] == ["nightly"]
    assert caplog.text.count("could not be registered") == 1


# Clocks.


class Shifted:
    """A store whose clock the test sets as it likes."""

    def __init__(self, backend, now):
        self.backend = backend
        self.now = now

    @property
    def capabilities(self):
        return self.backend.capabilities

    def __getattr__(self, name):
        method = getattr(self.backend, name)
        if "now" not in inspect.signature(method).parameters:
            return method
        return lambda *args, **fields: method(*args, **{"now": self.now, **fields})


async def test_a_worker_fires_each_due_time_once_whatever_the_clock_does(store, clock, bus, wait_until):
    noon = datetime(2031, 5, 14, 12, tzinfo=UTC)
    shifted = Shifted(store, noon)
    ran = []

    async def report():
        ran.append(1)

    registry = TaskRegistry()
    registry.add(make_task(report, name="shop.report"))
    spec = new_job(task="shop.report", arguments="[[],{}]").spec
    schedule = Schedule(name="hourly", recurrence=parse_recurrence("0 * * * *"), spec=spec, missed_runs=MissedRuns.ALL)
    await shifted.put_schedule(schedule)
    # The worker's clock runs ahead of its heartbeat, which is real; and nothing of a wrong year may be cleaned up.
    calm = msgspec.structs.replace(SETTINGS, lease=365 * DAY, retention=Retention(completed=None, failed=None))
    worker = Worker(Collaborators(backend=shifted, registry=registry, bus=bus, clock=clock), calm)
    running = asyncio.create_task(worker.run())

    async def is_quiet():
        await clock.advance(1)
        [entry] = (await shifted.schedules()).entries
        is_planned = shifted.now < entry.next_run <= shifted.now + 2 * HOUR
        states = {job.state for job in await every_job(store)}
        return is_planned and states <= {State.COMPLETED} and len(ran) == len(await every_job(store))

    async def at(moment):
        shifted.now = moment
        await wait_until(is_quiet)

    async def goes_from(moment, *, hours):
        for quarters in range(hours * 4 + 1):
            await at(moment + quarters * 15 * MINUTE)

    await goes_from(noon, hours=26)
    end = noon + 26 * HOUR
    await goes_from(end - HOUR, hours=2)  # set back by an hour
    end += HOUR
    await goes_from(end - DAY, hours=25)  # set back by a day
    end += HOUR
    await at(end + 400 * DAY)  # far ahead
    await goes_from(end, hours=2)  # and right again
    end += 2 * HOUR
    worker.stop()
    while not running.done():
        await clock.advance(1)
    await running

    hours = int((end - noon) / HOUR)
    of_the_wrong_clock = [end - 2 * HOUR + 400 * DAY - number * HOUR for number in range(100)]
    dues = [noon + number * HOUR for number in range(1, hours + 1)]
    expected = sorted(derived_id("hourly", due) for due in (*dues, *of_the_wrong_clock))
    assert sorted(job.id for job in await every_job(store)) == expected
    assert len(ran) == len(expected)
    told = [job for event in bus.heard if isinstance(event, ScheduleFired) for job in event.jobs]
    assert sorted(told) == expected
    assert any(isinstance(event, ScheduleRepaired) for event in bus.heard)
