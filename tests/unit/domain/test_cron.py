"""A recurrence is due when its expression says so in its zone, across changes of the clock."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from deeper_tasks.domain.cron import ALIASES, parse_recurrence
from deeper_tasks.errors import InvalidOptionError

BERLIN = ZoneInfo("Europe/Berlin")


def utc(*fields):
    return datetime(*fields, tzinfo=UTC)


def runs(expression, count, *, after, timezone="UTC"):
    return parse_recurrence(expression, timezone).next_runs(count, after=after)


def test_five_fields_are_minute_hour_day_month_and_weekday():
    assert runs("30 4 * * 1", 2, after=utc(2026, 1, 1)) == [utc(2026, 1, 5, 4, 30), utc(2026, 1, 12, 4, 30)]
    assert runs("0 0 1 6 *", 2, after=utc(2026, 1, 1)) == [utc(2026, 6, 1), utc(2027, 6, 1)]


def test_six_fields_have_seconds_in_front():
    assert runs("*/20 59 23 * * *", 4, after=utc(2026, 1, 1)) == [
        utc(2026, 1, 1, 23, 59, 0),
        utc(2026, 1, 1, 23, 59, 20),
        utc(2026, 1, 1, 23, 59, 40),
        utc(2026, 1, 2, 23, 59, 0),
    ]


def test_names_ranges_and_lists_are_understood():
    assert runs("0 9-10 * jan mon,fri", 3, after=utc(2026, 1, 1)) == [
        utc(2026, 1, 2, 9),
        utc(2026, 1, 2, 10),
        utc(2026, 1, 5, 9),
    ]


def test_the_next_run_comes_after_the_moment_and_never_at_it():
    recurrence = parse_recurrence("0 * * * *")
    assert recurrence.next_after(utc(2026, 1, 1, 5)) == utc(2026, 1, 1, 6)
    assert recurrence.next_after(utc(2026, 1, 1, 5) - timedelta(microseconds=1)) == utc(2026, 1, 1, 5)
    assert recurrence.next_after(utc(2026, 1, 1, 5) + timedelta(microseconds=1)) == utc(2026, 1, 1, 6)


@pytest.mark.parametrize(
    ("alias", "first"),
    [
        ("@yearly", utc(2027, 1, 1)),
        ("@annually", utc(2027, 1, 1)),
        ("@monthly", utc(2026, 3, 1)),
        ("@weekly", utc(2026, 2, 15)),
        ("@daily", utc(2026, 2, 12)),
        ("@midnight", utc(2026, 2, 12)),
        ("@hourly", utc(2026, 2, 11, 11)),
        ("@minutely", utc(2026, 2, 11, 10, 31)),
    ],
)
def test_an_alias_stands_for_its_expression(alias, first):
    assert alias in ALIASES
    assert runs(alias, 1, after=utc(2026, 2, 11, 10, 30, 15)) == [first]
    assert runs(alias.upper(), 1, after=utc(2026, 2, 11, 10, 30, 15)) == [first]


@pytest.mark.parametrize(
    ("expression", "interval"),
    [
        ("@every 1s", timedelta(seconds=1)),
        ("@every 30s", timedelta(seconds=30)),
        ("@every 1h30m", timedelta(minutes=90)),
        ("@every 2d", timedelta(days=2)),
        ("  @every   90s ", timedelta(seconds=90)),
    ],
)
def test_an_interval_counts_from_one_due_time_to_the_next(expression, interval):
    moment = utc(2026, 2, 11, 10, 30, 15, 7)
    assert runs(expression, 3, after=moment) == [moment + number * interval for number in (1, 2, 3)]


def test_a_moment_in_the_rhythm_of_an_interval_is_found_without_counting_up_to_it():
    recurrence = parse_recurrence("@every 7s")
    first = utc(2026, 1, 1)
    moment = utc(2056, 1, 1, 0, 0, 3)
    anchor = recurrence.anchored(moment, first)
    assert moment - timedelta(seconds=7) < anchor <= moment
    assert (anchor - first) % timedelta(seconds=7) == timedelta(0)


def test_white_space_does_not_make_another_recurrence():
    assert parse_recurrence(" 0   3 * * * ") == parse_recurrence("0 3 * * *")


def test_fields_are_read_in_the_zone():
    assert runs("0 9 * * *", 1, after=utc(2026, 1, 1), timezone="America/New_York") == [utc(2026, 1, 1, 14)]
    assert runs("0 9 * * *", 1, after=utc(2026, 7, 1), timezone="America/New_York") == [utc(2026, 7, 1, 13)]
    assert runs("0 9 * * *", 1, after=utc(2026, 7, 1), timezone="Asia/Kathmandu") == [utc(2026, 7, 1, 3, 15)]


def test_the_moment_may_be_given_in_any_zone():
    moment = datetime(2026, 1, 1, 1, tzinfo=BERLIN)
    assert runs("0 0 * * *", 1, after=moment) == [utc(2026, 1, 2)]


def test_a_time_that_the_change_to_summer_time_skips_is_due_at_the_change():
    assert runs("30 2 * * *", 3, after=utc(2024, 3, 30), timezone="Europe/Berlin") == [
        utc(2024, 3, 30, 1, 30),
        utc(2024, 3, 31, 1, 0),
        utc(2024, 4, 1, 0, 30),
    ]


def test_a_time_that_happens_twice_is_due_once():
    assert runs("30 2 * * *", 3, after=utc(2024, 10, 26), timezone="Europe/Berlin") == [
        utc(2024, 10, 26, 0, 30),
        utc(2024, 10, 27, 0, 30),
        utc(2024, 10, 28, 1, 30),
    ]


@pytest.mark.parametrize("minute", range(0, 60, 7))
def test_a_time_that_happens_twice_is_not_due_again_for_who_asks_within_the_second_hour(minute):
    moment = utc(2024, 10, 27, 1, minute)
    assert runs("30 2 * * *", 1, after=moment, timezone="Europe/Berlin") == [utc(2024, 10, 28, 1, 30)]


def test_what_runs_every_half_hour_runs_every_half_hour_across_both_changes():
    for after in (utc(2024, 3, 31, 0, 10), utc(2024, 10, 26, 23, 40)):
        found = runs("*/30 * * * *", 8, after=after, timezone="Europe/Berlin")
        assert {late - early for early, late in pairwise(found)} == {timedelta(minutes=30)}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/15 * * * *", "0 */3 * * *", "30 1 * * *"])
def test_no_next_run_ever_lies_before_the_moment_asked_from(zone, expression):
    recurrence = parse_recurrence(expression, zone)
    moments = [
        utc(2024, month, 1) + timedelta(hours=hour, minutes=17) for month in (3, 4, 10, 11) for hour in range(740)
    ]
    nexts = [recurrence.next_after(moment) for moment in moments]
    assert all(found > moment for found, moment in zip(nexts, moments, strict=True))
    if zone != "Australia/Lord_Howe":  # cronsim can miss a run at that zone's change of half an hour
        assert nexts == sorted(nexts)


def test_the_29th_of_february_waits_for_a_leap_year():
    assert runs("0 0 29 2 *", 2, after=utc(2026, 1, 1)) == [utc(2028, 2, 29), utc(2032, 2, 29)]


@pytest.mark.parametrize(
    "expression",
    [
        "61 * * * *",
        "* 24 * * *",
        "* * * 13 *",
        "* * * * 8",
        "",
        "   ",
        "* * * *",
        "* * * * * * *",
        "a b c d e",
        "0 0 30 2 *",
        "0 0 31 4,6 *",
        "@every",
        "@every 0s",
        "@every 5",
        "@every 1.5s",
        "@every -5s",
        "@every 999999d",
        "@reboot",
        "\0 * * * *",
    ],
)
def test_what_is_no_expression_is_refused_with_the_expression_in_the_message(expression):
    with pytest.raises(InvalidOptionError) as caught:
        parse_recurrence(expression)
    assert repr(expression) in str(caught.value)


def test_a_refusal_says_which_field_is_wrong_and_shows_a_right_expression():
    with pytest.raises(InvalidOptionError, match=r"bad minute.*'0 3 \* \* \*'"):
        parse_recurrence("61 * * * *")


def test_an_expression_that_is_too_long_is_refused():
    minutes = ",".join(["0"] * 200)
    with pytest.raises(InvalidOptionError, match="at most 256 characters"):
        parse_recurrence(f"{minutes} * * * *")


@pytest.mark.parametrize("zone", ["Mars/Base", "", "..", "America", "/etc/localtime", "a\0b", "x" * 5000])
def test_a_zone_that_does_not_exist_is_refused_by_name(zone):
    with pytest.raises(InvalidOptionError) as caught:
        parse_recurrence("* * * * *", zone)
    assert repr(zone) in str(caught.value)
