"""The screens of the commands at three widths, each compared with a file; `make screens` writes the files anew."""

from __future__ import annotations

import asyncio
import io
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.protocol import QueueSettings
from deeper_tasks.backends.sqlite import backend as sqlite
from deeper_tasks.backends.sqlite.codec import micros
from deeper_tasks.cli.rendering import formats
from deeper_tasks.cli.rendering.findings import render_findings
from deeper_tasks.cli.rendering.live_queues import render_look
from deeper_tasks.cli.store_watch import DeadLetter, Look, Rate
from deeper_tasks.domain.cron import Recurrence
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import ErrorReport, JobOptions, Progress
from deeper_tasks.domain.schedule import Schedule
from deeper_tasks.domain.settlement import End, Report
from deeper_tasks.testing.conformance.builders import new_job, new_node, settle, take

FILES = Path(__file__).parent / "screens"
WIDTHS = (80, 100, 140)
NOW = datetime(2031, 5, 14, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OURS = "/venv/lib/python3.12/site-packages/deeper_tasks/worker/execution/call.py"
DISCARDED = JobId("01c30000-0500-7000-8000-000000000000")
LONG = "reports-of-the-northern-regions-quarterly-consolidated"
# Of the machine and of the place of the store.
ELSEWHERE = {"sqlite", "space", "file", "store", "disk", "soundness", "database", "journal", "unused space"}


def error(kind, message):
    trace = (
        "Traceback (most recent call last):\n"
        f'  File "{OURS}", line 93, in run\n    value = await self.handler(*args)\n'
        '  File "/srv/shop/src/shop/payments/charges.py", line 48, in charge_the_card_of_an_order\n'
        "    raise CardRefused(f'the bank {bank} refused the card of the order {order}')\n"
        f"shop.payments.{kind}: {message}\n"
    )
    return ErrorReport(kind=kind, message=message, traceback=trace)


REFUSED = error("CardRefused", "the bank 千葉銀行 refused the card of the order 4711; ask the customer for another")
LATE = error("TimeoutError", "the bank did not answer within 30 s")


def job_id(number):
    """Return an id of its own millisecond, but for those that share one."""
    return JobId(f"01c30000-{number:04x}-7000-8000-000000000000")


async def put(backend, number, *, ago, options=None, ids=None, **fields):
    job = new_job(request_id=ids or job_id(number), options=options, **fields)
    await backend.insert([job], now=NOW - ago)
    return job.request_id


async def run(backend, node, *, ago, end=None, queue="default", after=2 * SECOND, **fields):
    """Have the first pending job of a queue run, and end."""
    jobs = await take(backend, node, queue=queue, now=NOW - ago, token=ClaimToken(f"token-{ago}"))
    if end is not None:
        await settle(backend, jobs, end, now=NOW - ago + after, **fields)
    return jobs


async def join(backend, name, queues, *, ago, beat):
    node = replace(new_node(name), id=NodeId(f"{name}-01c2"), host=name, pid=4242, queues=queues)
    await backend.register(node, now=NOW - ago)
    await backend.beat(node.id, busy=sum(queues.values()) // 2, now=NOW - beat)
    return node.id


def schedule(name, expression, timezone="UTC", **fields):
    job = new_job(task=fields.pop("task", "shop.reports.nightly"))
    return Schedule(name=name, recurrence=Recurrence(expression=expression, timezone=timezone), spec=job.spec, **fields)


async def fill_shop(backend):
    """A small store with a job in each state."""
    hour = 3600 * SECOND
    node = await join(backend, "web-1", {"default": 10, "emails": 5}, ago=hour, beat=SECOND)
    await put(backend, 1, ago=50 * hour, task="shop.mails.send_welcome")
    await run(backend, node, ago=49 * hour, end=End.COMPLETE)
    options = JobOptions(tags=("vip", "card"), meta={"by": "Ada"})
    charge = "shop.payments.charges.charge_the_card_of_an_order"
    await put(backend, 0, ids=DISCARDED, ago=3 * hour, task=charge, max_attempts=2, options=options)
    [job] = await run(backend, node, ago=2 * hour)
    await backend.report(
        [
            Report(
                id=job.id, token=job.token, progress=Progress(fraction=0.5, message="asked the bank"), lines=("begun",)
            )
        ],
        now=NOW - 2 * hour,
    )
    await settle(backend, [job], End.RETRY, now=NOW - 2 * hour + 30 * SECOND, error=LATE, delay=SECOND)
    await backend.promote(now=NOW - hour)
    await run(backend, node, ago=hour, end=End.DISCARD, error=REFUSED)
    await put(backend, 3, ago=hour, task="shop.mails.send_welcome", queue="emails")
    await run(
        backend, node, ago=hour, queue="emails", end=End.FAIL, error=ErrorReport(kind="Fail", message="no such user")
    )
    await put(backend, 4, ago=900 * SECOND, task="発送.知らせる", max_attempts=20)
    await run(backend, node, ago=800 * SECOND, end=End.RETRY, error=LATE, delay=hour)
    await put(backend, 5, ago=700 * SECOND, task="shop.reports.yearly", queue=LONG)
    await put(backend, 6, ago=600 * SECOND, task="shop.reports.monthly", delay=24 * hour)
    await put(backend, 7, ago=500 * SECOND, task="shop.reports.daily")
    await run(backend, node, ago=400 * SECOND)
    await put(backend, 8, ago=5 * SECOND, task="shop.mails.send_welcome", queue="emails")
    for digit in "89":
        # Of the same millisecond, so that 13 digits do not tell them apart.
        same = JobId(f"01c30000-0009-7000-{digit}000-000000000000")
        await put(backend, 9, ids=same, ago=4 * SECOND, task="shop.mails.remind", queue="発送")
    for entry in (
        schedule("nightly-report", "0 3 * * *", "Europe/Berlin"),
        schedule("a-name-that-is-as-long-as-a-name-of-a-recurring-task-can-sensibly-be", "*/5 * * * *", task=charge),
        schedule("請求", "0 0 1 * *", task="発送.知らせる"),
        schedule("paused", "@hourly"),
    ):
        await backend.put_schedule(entry, now=NOW - 1800 * SECOND)
    await backend.pause_schedule("paused", is_paused=True, now=NOW - 1700 * SECOND)


async def fill_crowd(backend):
    """A store with 60 queues and 30 workers."""
    hour = 3600 * SECOND
    for number in range(30):
        beat = (number % 3) * SECOND if number < 28 else hour
        await join(backend, f"web-{number:02}", {"default": 10, "tenant-07": 2, "tenant-08": 2}, ago=hour, beat=beat)
    jobs = [
        new_job(request_id=job_id(100 * tenant + place), task="shop.sync.pull", queue=f"tenant-{tenant:02}")
        for tenant in range(1, 58)
        for place in range(1 + tenant * 7 % 23)
    ]
    jobs += [new_job(request_id=job_id(6000 + place), task="shop.sync.push", queue=LONG) for place in range(25)]
    await backend.insert(jobs, now=NOW - 2 * hour)
    await backend.insert([new_job(request_id=job_id(7000), task="shop.sync.push", queue="発送")], now=NOW - hour)
    await backend.insert([new_job(request_id=job_id(7001), task="shop.sync.push")], now=NOW - SECOND)
    for tenant in range(1, 6):
        await backend.put_queue(QueueSettings(name=f"tenant-{tenant:02}", paused_at=NOW - hour))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Return the URLs of the stores by name; they are only read."""
    folder = tmp_path_factory.mktemp("screens")
    urls = {}
    for name, fill in (("shop", fill_shop), ("crowd", fill_crowd)):
        urls[name] = f"sqlite:///{folder / name}.db"

        async def make(url=urls[name], fill=fill):
            async with BackgroundTaskManager(url) as manager:
                await fill(manager.backend)

        asyncio.run(make())
    return urls


@pytest.fixture(autouse=True)
def stopped_clocks(monkeypatch):
    """The clocks of the store and of the command stand still, in a zone that is not UTC."""
    monkeypatch.setattr(formats, "now", lambda: NOW)
    monkeypatch.setattr(sqlite, "_clock", lambda now: micros(NOW if now is None else now))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def command(*words):
    def shown(deeper, url, width):
        result = deeper(*words, "--url", url)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    return shown


def drawn(renderable, width):
    screen = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    screen.print(renderable)
    return screen.file.getvalue()


def doctor(deeper, url, width):
    with BackgroundTaskManager(url).sync as manager:
        findings = manager.diagnose()
    return drawn(render_findings([each for each in findings if each.check not in ELSEWHERE], width=width), width)


def watch(deeper, url, width):
    with BackgroundTaskManager(url).sync as manager:
        overview = manager.get_overview()
    dead = DeadLetter(
        id=DISCARDED,
        task="shop.payments.charges.charge_the_card_of_an_order",
        queue="default",
        finished_at=NOW - 90 * SECOND,
        last_error=f"{REFUSED.kind}: {REFUSED.message}",
    )
    rates = {queue.name: Rate(completed=len(queue.name) / 2, failed=0) for queue in overview.queues}
    look = Look(at=NOW, overview=overview, rates=rates, dead_letters=(dead,) * 5)
    return drawn(render_look(look, ConsoleDimensions(width, 40), interval=2), width)


SCREENS = {
    "list": ("shop", command("list")),
    "list-dead": ("shop", command("list", "--dead")),
    "status": ("shop", command("status", DISCARDED[:18])),
    "stats": ("shop", command("stats")),
    "queues": ("shop", command("queues")),
    "schedules": ("shop", command("schedules")),
    "doctor": ("shop", doctor),
    "stats-of-60-queues": ("crowd", command("stats")),
    "queues-of-60": ("crowd", command("queues")),
    "doctor-of-60-queues": ("crowd", doctor),
    "watch-of-60-queues": ("crowd", watch),
}
# Their texts are to be copied, and so not wrapped.
MAY_BE_WIDER = {"status"}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_looks_as_in_its_file(deeper, stores, at_width, name, width):
    at_width(width)
    store, show = SCREENS[name]
    shown = "".join(f"{line.rstrip()}\n" for line in show(deeper, stores[store], width).splitlines())
    file = FILES / f"{name}-{width}.txt"
    if os.environ.get("WRITE_SCREENS"):
        file.write_text(shown)
    assert shown == file.read_text(), "if it is as it should be now: make screens"
    assert name in MAY_BE_WIDER or max(map(cell_len, shown.splitlines())) <= width


def test_a_narrow_live_screen_leaves_out_numbers_before_states_are_cut(deeper, stores):
    shown = watch(deeper, stores["crowd"], 60)
    assert "no worker serves it" in shown
    assert "tenant-13" in shown
    assert "per second" not in shown


@pytest.mark.parametrize("width", [40, 50, 60])
@pytest.mark.parametrize("name", ["list", "list-dead", "queues", "queues-of-60", "watch-of-60-queues"])
def test_a_screen_fits_a_narrow_terminal(deeper, stores, at_width, name, width):
    at_width(width)
    store, show = SCREENS[name]
    assert max(map(cell_len, show(deeper, stores[store], width).splitlines())) <= width


def test_the_findings_of_60_queues_fit_on_a_screen():
    assert len((FILES / "doctor-of-60-queues-80.txt").read_text().splitlines()) <= 40


def test_each_file_is_that_of_a_screen():
    assert {file.stem for file in FILES.iterdir()} == {f"{name}-{width}" for name in SCREENS for width in WIDTHS}
