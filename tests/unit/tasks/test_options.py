"""The options of an enqueue."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from msgspec import UNSET

from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.tasks.options import NOTHING_ASKED, EnqueueOptions, JobRequest, merge, parse_moment, parse_options

_ID = "0190a4b2-7c3d-7e5f-8a9b-0c1d2e3f4a5b"


def test_no_options_ask_for_nothing():
    assert parse_options({}) == NOTHING_ASKED
    assert NOTHING_ASKED.timeout is UNSET


def test_every_option_is_converted():
    request = parse_options(
        {
            "queue": "emails",
            "priority": -1,
            "max_attempts": 3,
            "retry_delay_seconds": 1.5,
            "max_retry_delay_seconds": timedelta(hours=3),
            "timeout_seconds": 30,
            "unique_for_seconds": timedelta(minutes=1),
            "unique_key": "user:42",
            "tags": ["a", "b"],
            "meta": {"trace": "x"},
            "expires_in_seconds": 60,
            "task_id": UUID(_ID),
            "delay_seconds": 0,
        }
    )
    assert request == JobRequest(
        queue="emails",
        priority=-1,
        max_attempts=3,
        retry_delay=timedelta(seconds=1.5),
        max_retry_delay=timedelta(hours=3),
        timeout=timedelta(seconds=30),
        unique_for=timedelta(minutes=1),
        unique_key="user:42",
        tags=("a", "b"),
        meta={"trace": "x"},
        expires_in=timedelta(seconds=60),
        task_id=_ID,
        delay=timedelta(0),
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("queue", ""),
        ("queue", "a b"),
        ("queue", "a,b"),
        ("queue", "a:b"),
        ("queue", "a\n"),
        ("queue", "x" * 129),
        ("queue", 7),
        ("priority", True),
        ("priority", 101),
        ("priority", -101),
        ("priority", 1.0),
        ("priority", "high"),
        ("max_attempts", 0),
        ("max_attempts", 1001),
        ("retry_delay_seconds", -1),
        ("retry_delay_seconds", float("nan")),
        ("retry_delay_seconds", float("inf")),
        ("max_retry_delay_seconds", -1),
        ("max_retry_delay_seconds", timedelta(days=40_000)),
        ("retry_delay_seconds", True),
        ("retry_delay_seconds", "5"),
        ("retry_delay_seconds", 10**400),
        ("retry_delay_seconds", -(10**400)),
        ("delay_seconds", timedelta(days=40_000)),
        ("delay_seconds", timedelta(seconds=-1)),
        ("delay_seconds", -1e-9),
        ("timeout_seconds", 0),
        ("timeout_seconds", -5),
        ("timeout_seconds", float("-inf")),
        ("timeout_seconds", float("nan")),
        ("unique_for_seconds", 0),
        ("expires_in_seconds", 0),
        ("unique", "for_ever"),
        ("unique", True),
        ("tags", "invoice"),
        ("tags", [1]),
        ("tags", [""]),
        ("tags", ["x" * 101]),
        ("tags", ["x"] * 51),
        ("tags", 5),
        ("meta", []),
        ("meta", {1: 2}),
        ("meta", {"a": datetime.now(UTC)}),
        ("meta", {"a": float("nan")}),
        ("meta", {"a": "\ud800"}),
        ("meta", {"a": "x" * 70_000}),
        ("task_id", "42"),
        ("task_id", 42),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_the_name_of_its_option(option, value):
    with pytest.raises(InvalidOptionError, match=f"^option '{option}' cannot "):
        parse_options({option: value})


def test_a_meta_inside_itself_is_refused():
    meta: dict = {}
    meta["self"] = meta
    with pytest.raises(InvalidOptionError, match="nested too deeply"):
        parse_options({"meta": meta})


def test_a_message_shows_a_large_value_shortened():
    with pytest.raises(InvalidOptionError) as caught:
        parse_options({"queue": "x" * 100_000})
    assert len(str(caught.value)) < 400


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(InvalidOptionError, match="unknown option 'prioritty'; did you mean 'priority'"):
        parse_options({"prioritty": 1})


def test_an_unknown_option_far_from_all_lists_them():
    with pytest.raises(
        InvalidOptionError, match="there are connection, delay_seconds, enqueue_patience_seconds, expires_in_seconds"
    ):
        parse_options({"zzz": 1})


def test_an_endless_timeout_means_no_limit_and_is_kept_apart_from_none_given():
    assert parse_options({"timeout_seconds": math.inf}).timeout is None
    assert parse_options({}).timeout is UNSET


EVERY_OPTION = {
    "queue": "emails",
    "priority": 3,
    "max_attempts": 2,
    "retry_delay_seconds": 60,
    "max_retry_delay_seconds": 7200,
    "timeout_seconds": 30,
    "unique_for_seconds": 10,
    "unique": "until_done",
    "unique_key": "k",
    "tags": ["a"],
    "meta": {"a": 1},
    "expires_in_seconds": 5,
    "task_id": _ID,
    "delay_seconds": 7,
    "enqueue_patience_seconds": 0,
    "connection": object(),
}


@pytest.mark.parametrize("option", sorted(EnqueueOptions.__annotations__))
def test_none_is_as_if_the_option_were_not_given(option):
    assert set(EVERY_OPTION) == set(EnqueueOptions.__annotations__)
    given = {name: value for name, value in EVERY_OPTION.items() if name != "unique"}
    del given["unique_key"]
    base = parse_options(given)
    assert parse_options({option: None}) == NOTHING_ASKED
    assert parse_options({option: None}, base=base) == base
    for others in ({}, {"queue": "other"}, given):
        without = {name: value for name, value in others.items() if name != option}
        assert parse_options({**others, option: None}) == parse_options(without)


def test_an_unknown_option_of_none_is_refused():
    with pytest.raises(InvalidOptionError, match="unknown option 'zzz'"):
        parse_options({"zzz": None})


def test_a_meta_is_copied():
    meta = {"list": [1]}
    request = parse_options({"meta": meta})
    meta["list"].append(2)
    assert request.meta == {"list": [1]}


def test_the_two_kinds_of_uniqueness_exclude_each_other():
    with pytest.raises(InvalidOptionError, match="exclude each other"):
        parse_options({"unique": "until_done", "unique_for_seconds": 5})


def test_a_unique_key_alone_is_refused():
    with pytest.raises(InvalidOptionError, match="has no effect alone"):
        parse_options({"unique_key": "k"})


def test_a_unique_key_goes_with_the_uniqueness_of_the_task():
    base = parse_options({"unique_for_seconds": 60})
    assert parse_options({"unique_key": "k"}, base=base).unique_key == "k"


def test_what_a_call_gives_wins_over_what_its_task_says():
    base = parse_options({"queue": "slow", "priority": 5, "timeout_seconds": 10})
    merged = merge(base, parse_options({"queue": "fast"}))
    assert (merged.queue, merged.priority, merged.timeout) == ("fast", 5, timedelta(seconds=10))


def test_a_call_can_lift_the_timeout_of_its_task():
    base = parse_options({"timeout_seconds": 10})
    assert parse_options({"timeout_seconds": math.inf}, base=base).timeout is None


@pytest.mark.parametrize(
    ("of_the_task", "of_the_call"),
    [
        ({"unique": "until_done"}, {"unique_for_seconds": 5}),
        ({"unique_for_seconds": 5}, {"unique": "until_done"}),
    ],
)
def test_a_kind_of_uniqueness_given_takes_the_place_of_the_other(of_the_task, of_the_call):
    merged = parse_options(of_the_call, base=parse_options(of_the_task))
    assert merged == parse_options(of_the_call)


def test_a_moment_is_an_aware_datetime_a_timedelta_or_seconds():
    aware = datetime(2030, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    assert parse_moment(aware) == aware
    assert parse_moment(timedelta(hours=1)) == timedelta(hours=1)
    assert parse_moment(90) == timedelta(seconds=90)


def test_a_moment_that_has_passed_is_fine():
    assert parse_moment(datetime(2000, 1, 1, tzinfo=UTC)).year == 2000
    assert parse_moment(datetime(8999, 12, 31, tzinfo=UTC)).year == 8999


def test_a_moment_before_all_stores_counts_as_passed_and_one_near_the_end_of_the_calendar_is_refused():
    for zone in (UTC, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("America/Los_Angeles")):
        assert parse_moment(datetime.min.replace(tzinfo=zone)) == datetime(1970, 1, 1, tzinfo=UTC)
        for late in (datetime.max.replace(tzinfo=zone), datetime(9000, 1, 2, tzinfo=zone)):
            with pytest.raises(InvalidOptionError, match="before the year 9000"):
                parse_moment(late)


@pytest.mark.parametrize("levels", [100, 101, 900, 100_000])
def test_meta_nests_at_most_a_hundred_levels(levels):
    meta = {}
    for _ in range(levels - 1):
        meta = {"a": meta}
    if levels <= 100:
        assert parse_options({"meta": meta}).meta == meta
    else:
        with pytest.raises(InvalidOptionError, match="nested"):
            parse_options({"meta": meta})


@pytest.mark.parametrize("moment", [-1, timedelta(seconds=-1), float("nan"), True, "tomorrow", None])
def test_a_moment_that_cannot_be_is_refused(moment):
    with pytest.raises(InvalidOptionError, match="'scheduled_at'"):
        parse_moment(moment)


def test_a_moment_without_a_zone_names_the_way_out():
    with pytest.raises(InvalidOptionError, match="tzinfo=UTC"):
        parse_moment(datetime(2030, 1, 1))  # noqa: DTZ001 - the mistake
