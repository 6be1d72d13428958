"""Assertions: which jobs were enqueued, and a message that shows how near the others came."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from deeper_tasks.errors import InvalidArgumentsError, InvalidOptionError
from deeper_tasks.testing import use_memory


class Address(msgspec.Struct):
    city: str


@pytest.fixture
def send(kit):
    @kit.manager.task(name="shop.send", queue="emails")
    async def send(user_id: int, greeting: str = "hello", *further: int, to: Address | None = None):
        pass

    return send


@pytest.fixture
def clean(kit):
    @kit.manager.task(name="shop.clean")
    async def clean():
        pass

    return clean


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"args": [42]},
        {"args": (42, "hi")},
        {"args": [42, "hi", 1, 2]},
        {"kwargs": {"user_id": 42}},
        {"kwargs": {"to": Address(city="Bonn")}},
        {"args": [42], "kwargs": {"greeting": "hi", "to": Address(city="Bonn")}},
        {"queue": "emails"},
        {"priority": -5},
        {"status": "scheduled"},
        {"status": ["pending", "scheduled"]},
        {"tags": ["a"]},
        {"tags": "a"},
        {"meta": {"tenant": 7}},
        {"meta": {"tags": ["x"]}},
        {"scheduled_at": timedelta(hours=1)},
        {"scheduled_at": timedelta(minutes=59), "tolerance": timedelta(minutes=1)},
        {"args": [42], "queue": "emails", "tags": ["b", "a"], "meta": {}, "count": 1},
    ],
)
async def test_a_job_fits_what_is_said_of_it(kit, send, wanted):
    options = send.with_options(priority=-5, tags=["a", "b"], meta={"tenant": 7, "tags": ["x"]}, delay_seconds=3600)
    task_id = await options.enqueue(42, "hi", 1, 2, to=Address(city="Bonn"))
    assert [status.id for status in await kit.assert_enqueued(send, **wanted)] == [task_id]
    with pytest.raises(AssertionError, match="none should be"):
        await kit.refute_enqueued(send, **{key: value for key, value in wanted.items() if key != "count"})


@pytest.mark.parametrize(
    "wanted",
    [
        {"args": [41]},
        {"args": [42, "bye"]},
        {"args": [42, "hi", 1]},
        {"kwargs": {"to": Address(city="Köln")}},
        {"queue": "default"},
        {"priority": 0},
        {"status": "completed"},
        {"tags": ["a", "c"]},
        {"meta": {"tenant": 8}},
        {"meta": {"other": None}},
        {"scheduled_at": timedelta(minutes=59)},
        {"args": [42], "count": 2},
    ],
)
async def test_a_job_does_not_fit_what_is_not_so(kit, send, wanted):
    await send.with_options(priority=-5, tags=["a", "b"], meta={"tenant": 7}, delay_seconds=3600).enqueue(
        42, "hi", 1, 2, to=Address(city="Bonn")
    )
    with pytest.raises(AssertionError):
        await kit.assert_enqueued(send, **wanted)
    if "count" not in wanted:
        await kit.refute_enqueued(send, **wanted)
        assert await kit.all_enqueued(send, **wanted) == []


async def test_times_are_a_moment_or_a_window(kit, send):
    await send.with_options(delay_seconds=3600).enqueue(1)
    due = kit.now + timedelta(hours=1)
    await kit.assert_enqueued(send, scheduled_at=due)
    await kit.assert_enqueued(send, scheduled_at=(kit.now, due))
    await kit.refute_enqueued(send, scheduled_at=(kit.now, due - timedelta(seconds=1)))


async def test_a_task_may_be_named_or_left_out(kit, send, clean):
    await send.enqueue(42)
    await clean.enqueue()
    assert len(await kit.assert_enqueued()) == 2
    assert [status.task for status in await kit.all_enqueued("shop.clean")] == ["shop.clean"]
    await kit.assert_enqueued("shop.send", kwargs={"user_id": 42})
    await kit.assert_enqueued(args=[42])
    await kit.refute_enqueued("shop.sent")


async def test_a_job_that_has_run_was_enqueued_all_the_same(kit, clean):
    await clean.enqueue()
    await kit.drain()
    await kit.assert_enqueued(clean, status="completed")
    await kit.refute_enqueued(clean, status=["pending", "running"])


async def test_more_jobs_than_a_page_are_looked_at_oldest_first(kit, send):
    await kit.manager.enqueue_many([send.call(number) for number in range(1100)])
    await kit.assert_enqueued(send, count=1100)
    assert [status.args[0] for status in await kit.all_enqueued(send)] == list(range(1100))


async def test_it_can_be_said_that_there_are_none(kit, send):
    assert await kit.assert_enqueued(send, count=0) == []


async def message_of(kit, *args, **wanted):
    with pytest.raises(AssertionError) as raised:
        await kit.assert_enqueued(*args, **wanted)
    return str(raised.value).splitlines()


async def test_the_message_shows_what_was_looked_for_and_the_nearest_field_by_field(kit, send, clean):
    far = await clean.enqueue()
    near = await send.with_options(tags=["a"]).enqueue(41)
    assert await message_of(kit, send, args=[42], queue="emails", tags=["vip"]) == [
        "no job like this was enqueued:",
        "    task          shop.send",
        "    arguments     user_id=42",
        "    queue         'emails'",
        "    tags          vip",
        "2 jobs in the store, the nearest first:",
        f"  {near} (pending)",
        "    task          shop.send",
        "  ! arguments     user_id=41   (wanted: user_id=42)",
        "    queue         'emails'",
        "  ! tags          a   (wanted: vip)",
        f"  {far} (pending)",
        "  ! task          shop.clean   (wanted: shop.send)",
        "  ! arguments     nothing   (wanted: user_id=42)",
        "  ! queue         'default'   (wanted: 'emails')",
        "  ! tags          nothing   (wanted: vip)",
    ]


async def test_the_message_tells_of_an_empty_store(kit, send):
    assert (await message_of(kit, send))[-1] == "the store has no job at all"
    assert (await message_of(kit))[1] == "    (any job)"


async def test_the_message_shows_a_few_and_counts_the_rest(kit, send):
    await kit.manager.enqueue_many([send.call(number) for number in range(10)])
    lines = await message_of(kit, send, args=[42])
    assert sum("!" in line for line in lines) == 3
    assert lines[-1] == "  and 7 more"


async def test_the_message_shows_those_that_fit_when_there_are_not_so_many(kit, send):
    await send.enqueue(42)
    await send.enqueue(41)
    lines = await message_of(kit, send, args=[42], count=2)
    assert lines[0] == "1 job like this was enqueued, not 2:"
    assert "found:" in lines
    assert "1 job of another kind in the store, the nearest first:" not in lines
    assert "1 job of another kind, the nearest first:" in lines
    await send.enqueue(42)
    lines = await message_of(kit, send, args=[42], count=1)
    assert lines[0] == "2 jobs like this were enqueued, not 1:"
    assert not any("another kind" in line for line in lines)


async def test_the_message_shows_a_time_by_the_clock(manager):
    with use_memory(manager, start=datetime(2031, 5, 14, 12, tzinfo=UTC)) as kit:

        @manager.task(name="shop.clean")
        async def clean():
            pass

        await clean.with_options(delay_seconds=90).enqueue()
        lines = await message_of(kit, clean, scheduled_at=timedelta(hours=1))
    assert lines[2] == "    scheduled_at  2031-05-14 13:00:00+00:00 (give or take 1 s)"
    assert lines[-1].startswith("  ! scheduled_at  2031-05-14 12:01:30+00:00   (wanted: 2031-05-14 13:00:00+00:00")


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"args": ["x"]}, InvalidArgumentsError, "user_id"),
        ({"kwargs": {"user": 1}}, InvalidArgumentsError, "user"),
        ({"args": "42"}, InvalidOptionError, "give a list"),
        ({"argz": [42]}, InvalidOptionError, "'argz' is not a condition for jobs"),
        ({"status": "done"}, InvalidOptionError, "'done' is none of"),
        ({"scheduled_at": datetime(2031, 5, 14)}, InvalidOptionError, "needs a time zone"),  # noqa: DTZ001 - refused
    ],
)
async def test_what_no_job_could_fit_is_refused(kit, send, wanted, error, words):
    for check in (kit.assert_enqueued, kit.refute_enqueued, kit.all_enqueued):
        with pytest.raises(error, match=words):
            await check(send, **wanted)


async def test_a_job_of_another_signature_is_compared_as_it_stands(kit, send):
    await send.enqueue(42)

    @kit.manager.task(name="other.send")
    async def other(*, user_id: int):
        pass

    await other.enqueue(user_id=42)
    await kit.assert_enqueued(other, kwargs={"user_id": 42}, count=1)
    await kit.assert_enqueued(kwargs={"user_id": 42}, count=1)
