"""The verdict: a handler that has seen a stop and returns has not completed, unless it says so; nor has a late one."""

import asyncio
import re
import textwrap
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from deeper_tasks import Cancel, Done, Fail, Retry, Snooze, Stopped, current_job
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.stop import PRECEDENCE, Stop, foremost
from deeper_tasks.tasks import ExecutorKind, TaskRegistry
from deeper_tasks.tasks.stop_signals import StopSignals
from deeper_tasks.worker.claiming.consumer import SHUTTING_DOWN

PATIENCE = 30
LIMIT = 10

COLUMNS = (Stop.CANCEL, Stop.TIMEOUT, Stop.SHUTDOWN)
FLAGS = {Stop.CANCEL: "cancelled", Stop.TIMEOUT: "timed_out", Stop.SHUTDOWN: "stopping"}
ERROR = {End.COMPLETE: None, End.RELEASE: None, End.SNOOZE: None, End.CANCEL: "Cancel", End.FAIL: "Fail"}

# By stop: cancel, timeout, shutdown. RETRY stands with the kind of error.
LATE = (End.RETRY, "TimeoutError")
SEEN = {
    "return value": (End.CANCEL, LATE, End.RELEASE),
    "return": (End.CANCEL, LATE, End.RELEASE),
    "return done": (End.COMPLETE, End.COMPLETE, End.COMPLETE),
    "raise done": (End.COMPLETE, End.COMPLETE, End.COMPLETE),
    "raise error": (End.CANCEL, LATE, End.RELEASE),
    "check": (End.CANCEL, LATE, End.RELEASE),
    "raise fail": (End.CANCEL, End.FAIL, End.FAIL),
    "return fail": (End.CANCEL, End.FAIL, End.FAIL),
    "raise snooze": (End.CANCEL, End.SNOOZE, End.SNOOZE),
    "raise retry": (End.CANCEL, (End.RETRY, "Retry"), (End.RETRY, "Retry")),
    "raise cancel": (End.CANCEL, End.CANCEL, End.CANCEL),
}
UNSEEN = {
    "return value": (End.COMPLETE, LATE, End.COMPLETE),
    "return": (End.COMPLETE, LATE, End.COMPLETE),
    "return done": (End.COMPLETE, LATE, End.COMPLETE),
    "raise done": (End.COMPLETE, LATE, End.COMPLETE),
    "raise error": (End.CANCEL, LATE, (End.RETRY, "ValueError")),
    "raise fail": (End.CANCEL, End.FAIL, End.FAIL),
    "return fail": (End.CANCEL, End.FAIL, End.FAIL),
    "raise snooze": (End.CANCEL, End.SNOOZE, End.SNOOZE),
    "raise retry": (End.CANCEL, (End.RETRY, "Retry"), (End.RETRY, "Retry")),
    "raise cancel": (End.CANCEL, End.CANCEL, End.CANCEL),
}
ACCEPTED = {
    "return value": End.COMPLETE,
    "return": End.COMPLETE,
    "return done": End.COMPLETE,
    "raise error": LATE,
    "check": LATE,
}


def cells(table):
    return [(end, stop, cell) for end, row in table.items() for stop, cell in zip(COLUMNS, row, strict=True)]


def finish(how):
    """End as the table says."""
    outcomes = {
        "done": Done("all of it"),
        "error": ValueError("in the middle"),
        "fail": Fail("never"),
        "snooze": Snooze(60),
        "retry": Retry(after=5),
        "cancel": Cancel("not wanted"),
        "value": "half of it",
    }
    verb, _, what = how.partition(" ")
    if verb == "check":
        current_job().check()
    if verb == "raise":
        raise outcomes[what]
    return outcomes.get(what)


def look(seen):
    """See a stop in one of the ways that there are; they say what was seen."""
    job = current_job()
    match seen:
        case "should_stop":
            return job.should_stop
        case "check":
            with pytest.raises(Stopped):
                job.check()
            return True
        case "nothing":
            return True
    return getattr(job, seen)


@pytest.fixture(params=["coroutine", "thread"])
def kind(request):
    return request.param


@pytest.fixture
def get_end(bench, clock, kind):
    """Return a run of a handler that looks at its stop, or not, and then ends in some way."""

    async def get_end(how, stop, *, seen, **options):
        begun, told = threading.Event(), threading.Event()

        def in_thread():
            begun.set()
            assert told.wait(PATIENCE)
            assert look(seen)
            return finish(how)

        async def on_loop():
            begun.set()
            await asyncio.to_thread(told.wait, PATIENCE)
            assert look(seen)
            return finish(how)

        task = bench.task({"coroutine": on_loop, "thread": in_thread}[kind], timeout_seconds=LIMIT, **options)
        attempt, running = bench.start(await bench.claim(task))
        await asyncio.to_thread(begun.wait, PATIENCE)
        # Told only: an interruption would have a coroutine see it.
        attempt.announce(stop, "not wanted" if stop is Stop.CANCEL else "")
        clock.now += LIMIT + 1 if stop is Stop.TIMEOUT else 1
        told.set()
        return await asyncio.wait_for(running, PATIENCE)

    return get_end


def is_as_told(settlement, cell):
    end, error = cell if isinstance(cell, tuple) else (cell, ERROR[cell])
    return (settlement.end, settlement.error and settlement.error.kind) == (end, error)


@pytest.mark.parametrize(("how", "stop", "cell"), cells(SEEN))
async def test_a_stop_that_was_seen_decides_how_the_attempt_ends(get_end, how, stop, cell):
    for seen in (FLAGS[stop], "should_stop", "check"):
        settlement = await get_end(how, stop, seen=seen)
        assert is_as_told(settlement, cell)
        assert settlement.result == ('"all of it"' if settlement.end is End.COMPLETE else None)
        assert settlement.reason == (SHUTTING_DOWN if settlement.end is End.RELEASE else "")


@pytest.mark.parametrize(("how", "stop", "cell"), cells(UNSEEN))
async def test_a_stop_that_was_not_seen_does_not(get_end, how, stop, cell):
    assert is_as_told(await get_end(how, stop, seen="nothing"), cell)


@pytest.mark.parametrize(("how", "cell"), ACCEPTED.items())
@pytest.mark.parametrize("seen", ["nothing", "timed_out", "should_stop"])
async def test_a_late_result_counts_where_the_task_accepts_it_seen_or_not(get_end, how, cell, seen):
    assert is_as_told(await get_end(how, Stop.TIMEOUT, seen=seen, late_result="accept"), cell)


@pytest.mark.parametrize(("stop", "end"), [(Stop.CANCEL, End.CANCEL), (Stop.SHUTDOWN, End.RELEASE)])
async def test_a_task_that_accepts_late_results_still_heeds_the_other_stops(get_end, stop, end):
    assert (await get_end("return value", stop, seen=FLAGS[stop], late_result="accept")).end is end


@pytest.mark.parametrize("stop", COLUMNS)
async def test_a_flag_tells_of_its_own_stop_only(bench, stop):
    read = []

    def deaf():
        attempt.announce(stop)
        job = current_job()
        read.extend(flag for flag in FLAGS.values() if getattr(job, flag))

    attempt, running = bench.start(await bench.claim(bench.task(deaf)))
    await running
    assert read == [FLAGS[stop]]


@pytest.mark.parametrize("how", ["return value", "raise error", "reraise", "return done", "raise fail"])
@pytest.mark.parametrize("stop", COLUMNS)
async def test_a_coroutine_that_catches_its_cancellation_has_seen_the_stop(bench, clock, how, stop):
    async def slow():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if how == "reraise":
                raise
            return finish(how)

    attempt, running = bench.start(await bench.claim(bench.task(slow, timeout_seconds=LIMIT)))
    await clock.settle()
    attempt.tell_to_stop(stop, "not wanted")
    row = SEEN["raise error" if how == "reraise" else how]
    assert is_as_told(await running, row[COLUMNS.index(stop)])


@pytest.mark.parametrize(("late_result", "cell"), [("accept", End.COMPLETE), ("fail", LATE)])
async def test_what_a_cancelled_coroutine_has_in_its_hands_is_a_late_result(bench, clock, late_result, cell):
    async def slow():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half of it"

    task = bench.task(slow, timeout_seconds=LIMIT, late_result=late_result)
    _, running = bench.start(await bench.claim(task))
    await clock.settle()
    await clock.advance(LIMIT + 1)
    assert is_as_told(await running, cell)


async def test_a_read_by_middleware_is_not_the_handlers(bench, kind):
    seen = []

    async def around(job, proceed):
        attempt.announce(Stop.SHUTDOWN)
        seen.append((job.stopping, job.should_stop, job.cancelled, repr(job)[:11]))
        settlement = await proceed()
        with pytest.raises(Stopped):
            job.check()
        return settlement

    bench.middleware.append(around)

    async def on_loop():
        repr(current_job())

    task = bench.task({"coroutine": on_loop, "thread": lambda: repr(current_job()) and None}[kind], name="shop.task")
    attempt, running = bench.start(await bench.claim(task))
    assert (await running).end is End.COMPLETE
    assert seen == [(True, True, False, "<CurrentJob")]


async def test_a_read_in_a_thread_or_a_task_that_the_handler_starts_is_its_own(bench):
    async def slow():
        attempt.announce(Stop.SHUTDOWN)
        assert await asyncio.to_thread(lambda: current_job().stopping)

    attempt, running = bench.start(await bench.claim(bench.task(slow)))
    assert (await running).end is End.RELEASE


@pytest.mark.parametrize("stops", [(first, second) for first in PRECEDENCE for second in PRECEDENCE])
async def test_of_several_stops_the_first_by_precedence_counts_in_whatever_order_they_come(bench, clock, stops):
    async def slow():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half of it"

    attempt, running = bench.start(await bench.claim(bench.task(slow, timeout_seconds=LIMIT)))
    await clock.settle()
    for stop in stops:
        attempt.tell_to_stop(stop, f"by {stop}")
    ends = {Stop.LOST: None, Stop.CANCEL: End.CANCEL, Stop.TIMEOUT: End.RETRY, Stop.SHUTDOWN: End.RELEASE}
    settlement = await running
    assert (settlement and settlement.end) == ends[foremost(stops)]
    assert Stop.CANCEL not in stops or Stop.LOST in stops or settlement.error.message == "by cancel"


async def test_a_lost_job_should_stop_and_is_neither_cancelled_nor_late(bench):
    seen = []

    def deaf():
        attempt.announce(Stop.LOST)
        job = current_job()
        seen.append((job.should_stop, job.stopping, job.cancelled, job.timed_out))

    attempt, running = bench.start(await bench.claim(bench.task(deaf)))
    await running
    assert seen == [(True, True, False, False)]


# How late, by whose clock.


async def test_a_handler_that_returns_late_has_failed_and_the_error_says_how_late_and_where(bench, kind):
    def in_thread():
        bench.clock.now += 8

    async def on_loop():
        bench.clock.now += 8
        await asyncio.sleep(0)

    handler = {"coroutine": on_loop, "thread": in_thread}[kind]
    settlement = await bench.run(bench.task(handler, timeout_seconds=1))
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TimeoutError")
    place = f"test_verdict.py:{handler.__code__.co_firstlineno}"
    assert settlement.error.message == f"ran 8 s, 7 s longer than its timeout of 1 s, in {place}"
    assert settlement.ran_for == timedelta(seconds=8)


async def test_the_time_of_middleware_is_not_the_handlers(bench, clock, kind):
    async def around(job, proceed):
        clock.now += 0.5
        settlement = await proceed()
        clock.now += 8
        return settlement

    async def on_loop():
        clock.now += 0.9

    def in_thread():
        clock.now += 0.9

    bench.middleware.append(around)
    task = bench.task({"coroutine": on_loop, "thread": in_thread}[kind], timeout_seconds=1)
    assert (await bench.run(task)).end is End.COMPLETE


async def test_a_thread_that_returned_in_time_is_not_late_because_the_loop_was_blocked(bench, clock):
    returned = threading.Event()

    def in_thread():
        clock.now += 0.9
        returned.set()

    _, running = bench.start(await bench.claim(bench.task(in_thread, timeout_seconds=1)))
    await clock.settle()
    assert returned.wait(PATIENCE)
    clock.now += 8
    assert (await running).end is End.COMPLETE


async def test_a_handler_that_keeps_the_loop_from_turning_sees_its_timeout_all_the_same(bench, clock, kind):
    looks = []

    def compute():
        while not current_job().timed_out:
            looks.append(clock.now)
            clock.now += 1
        with pytest.raises(Stopped, match="the attempt runs longer than its timeout"):
            current_job().check()

    async def on_loop():
        compute()

    task = bench.task({"coroutine": on_loop, "thread": compute}[kind], name="shop.task", timeout_seconds=LIMIT)
    settlement = await bench.run(task)
    assert is_as_told(settlement, LATE)
    assert len(looks) == LIMIT + 1


# In a process.

TASKS = """
    import time
    from pathlib import Path
    from deeper_tasks import current_job, task
    from tests_of_verdict import finish, look

    @task(executor="process")
    def stops(folder: str, how: str, seen: str):
        Path(folder, "begun").touch()
        while not Path(folder, "told").exists():
            time.sleep(0.002)
        while not look(seen):
            time.sleep(0.002)
        return finish(how)

    @task(executor="process", timeout_seconds=0.05)
    def is_late(): time.sleep(0.1)

    @task(executor="process", timeout_seconds=0.05)
    def looks():
        while not current_job().timed_out:
            time.sleep(0.005)

    @task(executor="process", timeout_seconds=0.05, late_result="accept")
    def is_late_and_accepted(): time.sleep(0.1); return current_job().should_stop
"""


@pytest.fixture
def process_tasks(tmp_path, monkeypatch, bench):
    """The functions of this file in a module without the rest, and tasks that use them."""
    own = Path(__file__).read_text(encoding="utf-8")
    helpers = [re.search(rf"^def {name}.*?(?=^\S)", own, re.MULTILINE | re.DOTALL)[0] for name in ("finish", "look")]
    imports = "import pytest\nfrom deeper_tasks import Cancel, Done, Fail, Retry, Snooze, Stopped, current_job\n\n"
    (tmp_path / "tests_of_verdict.py").write_text(imports + "".join(helpers), encoding="utf-8")
    (tmp_path / "verdict_tasks.py").write_text(textwrap.dedent(TASKS), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    registry: TaskRegistry = bench.registry
    return {task.name.rpartition(".")[2]: task for task in registry.include("verdict_tasks")}


async def test_a_process_sees_its_stops_while_it_runs_and_ends_as_elsewhere(
    bench, process_tasks, tmp_path, wait_until, monkeypatch
):
    executor = bench.executors[ExecutorKind.PROCESS]
    tables = [(seen, cell) for cell in cells(SEEN) for seen in (FLAGS[cell[1]],)]
    tables += [("nothing", cell) for cell in cells(UNSEEN) if cell[1] is not Stop.TIMEOUT]
    for number, (seen, (how, stop, cell)) in enumerate(tables):
        folder = tmp_path / str(number)
        folder.mkdir()
        attempt, running = bench.start(await bench.claim(process_tasks["stops"], str(folder), how, seen))
        await wait_until(lambda folder=folder: (folder / "begun").exists())
        # Told, and not killed as a worker does at a cancel or a timeout.
        attempt.announce(stop, "not wanted")
        (folder / "told").touch()
        settlement = await asyncio.wait_for(running, PATIENCE)
        assert is_as_told(settlement, cell), (seen, how, stop, settlement)
    # No stop that was never read was taken for the next job, or for garble.
    assert len(executor._idle) == 1


async def test_a_process_that_starts_while_its_worker_stops_knows_it(bench, process_tasks, tmp_path):
    (tmp_path / "told").touch()
    attempt, running = bench.start(await bench.claim(process_tasks["stops"], str(tmp_path), "return value", "stopping"))
    attempt.announce(Stop.SHUTDOWN)
    settlement = await asyncio.wait_for(running, PATIENCE)
    assert (settlement.end, settlement.reason) == (End.RELEASE, SHUTTING_DOWN)


async def test_a_process_measures_its_lateness_by_itself(bench, process_tasks):
    # The bench's clock stands still, so nothing is killed.
    settlement = await bench.run(process_tasks["is_late"])
    assert (settlement.end, settlement.error.kind) == (End.RETRY, "TimeoutError")
    assert settlement.error.message.endswith("longer than its timeout of 50 ms, in verdict_tasks.py:16")
    assert is_as_told(await bench.run(process_tasks["looks"]), LATE)
    accepted = await bench.run(process_tasks["is_late_and_accepted"])
    assert (accepted.end, accepted.result) == (End.COMPLETE, "true")


# The signals.


def test_a_mark_is_kept_once():
    stops = StopSignals()
    stops.mark_seen(frozenset({Stop.CANCEL}))
    stops.mark_seen(frozenset({Stop.CANCEL, Stop.TIMEOUT}))
    assert stops.seen == {Stop.CANCEL, Stop.TIMEOUT}
