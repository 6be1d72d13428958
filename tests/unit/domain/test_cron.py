"""A recurrence is due when its expression says so in its zone, across changes of the clock."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from deeper_tasks.domain.cron import ALIASES, Recurrence, parse_recurrence
from deeper_tasks.domain.end_of_time import END_OF_TIME
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
    assert nexts == sorted(nexts)


@pytest.mark.parametrize(
    ("expression", "zone", "after", "due"),
    [
        # A change at midnight.
        ("15 0 * * *", "Africa/Cairo", utc(2024, 4, 25), [utc(2024, 4, 25, 22), utc(2024, 4, 26, 21, 15)]),
        ("*/30 * 26 4 *", "Africa/Cairo", utc(2024, 4, 25, 22, 30), [utc(2024, 4, 25, 23), utc(2024, 4, 25, 23, 30)]),
        ("45 23 * * *", "Africa/Cairo", utc(2024, 10, 31, 12), [utc(2024, 10, 31, 20, 45), utc(2024, 11, 1, 21, 45)]),
        # A change by half an hour: from 02:00 to 02:30, and back from 02:00 to 01:30.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            utc(2024, 10, 5, 12),
            [utc(2024, 10, 5, 15, 30), utc(2024, 10, 6, 15, 15)],
        ),
        ("0 */2 * * *", "Australia/Lord_Howe", utc(2024, 10, 5, 13, 45), [utc(2024, 10, 5, 17), utc(2024, 10, 5, 19)]),
        ("45 1 * * *", "Australia/Lord_Howe", utc(2024, 4, 6), [utc(2024, 4, 6, 14, 45), utc(2024, 4, 7, 15, 15)]),
        (
            "45 * * * *",
            "Australia/Lord_Howe",
            utc(2024, 4, 6, 14, 40),
            [utc(2024, 4, 6, 14, 45), utc(2024, 4, 6, 15, 15)],
        ),
        # The 30th of December 2011 was left out, and the 21st of August 1993.
        ("30 2 30 12 *", "Pacific/Apia", utc(2011, 1, 1), [utc(2011, 12, 30, 10), utc(2012, 12, 29, 12, 30)]),
        ("30 2 * * *", "Pacific/Apia", utc(2011, 12, 29), [utc(2011, 12, 29, 12, 30), utc(2011, 12, 30, 10)]),
        ("0 * 30 12 *", "Pacific/Apia", utc(2011, 1, 1), [utc(2012, 12, 29, 10), utc(2012, 12, 29, 11)]),
        ("0 8 21 8 *", "Pacific/Kwajalein", utc(1993, 1, 1), [utc(1993, 8, 21, 12), utc(1994, 8, 20, 20)]),
    ],
)
def test_five_and_six_fields_are_due_alike_at_uncommon_changes_of_the_clock(expression, zone, after, due):
    assert runs(expression, 2, after=after, timezone=zone) == due
    assert runs(f"0 {expression}", 2, after=after, timezone=zone) == due


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("30 30 2 * * *", utc(2024, 3, 31), [utc(2024, 3, 31, 1), utc(2024, 4, 1, 0, 30, 30)]),
        ("30 30 2 * * *", utc(2024, 10, 27), [utc(2024, 10, 27, 0, 30, 30), utc(2024, 10, 28, 1, 30, 30)]),
        ("* 30 2 * * *", utc(2024, 3, 31), [utc(2024, 3, 31, 1), utc(2024, 4, 1, 0, 30)]),
        ("59 59 2 * * *", utc(2024, 10, 27, 0, 59, 59), [utc(2024, 10, 28, 1, 59, 59)]),
        ("*/30 59 * * * *", utc(2024, 10, 27, 0, 59), [utc(2024, 10, 27, 0, 59, 30), utc(2024, 10, 27, 1, 59)]),
    ],
)
def test_six_fields_are_due_once_at_a_change_of_the_clock_where_their_time_is_fixed(expression, after, due):
    assert runs(expression, len(due), after=after, timezone="Europe/Berlin") == due


@pytest.mark.parametrize(
    ("expression", "timezone"),
    [
        ("0 6 */15 * mon#2", "UTC"),
        ("0 0 30 2 *", "UTC"),
        ("0 0 31 4,6 *", "Europe/Berlin"),
        ("15 0 0 31 11 *", "UTC"),
        ("* 2 * 3 0L", "Europe/Berlin"),
    ],
)
def test_an_expression_that_is_never_due_is_refused(expression, timezone):
    with pytest.raises(InvalidOptionError, match="is never due") as caught:
        parse_recurrence(expression, timezone)
    assert repr(expression) in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("0 0 */28 2 mon", [utc(2072, 2, 29), utc(2077, 2, 1)]),
        ("0 12 * 2 mon#5", [utc(2072, 2, 29, 12), utc(2112, 2, 29, 12)]),
        ("0 0 12 29 2 */7", [utc(2088, 2, 29, 12), utc(2128, 2, 29, 12)]),
    ],
)
def test_the_rarest_dates_are_found_forty_years_ahead(expression, due):
    assert runs(expression, 2, after=utc(2072, 2, 28)) == due


@pytest.mark.parametrize(
    "recurrence",
    [
        Recurrence(expression="0 6 */15 * mon#2"),
        Recurrence(expression="at noon"),
        Recurrence(expression=""),
        Recurrence(expression="@every 0s"),
        Recurrence(expression="@every 999999d"),
        Recurrence(expression="0 3 * * *", timezone="Mars/Olympus"),
        Recurrence(expression="0 3 * * *", timezone=""),
    ],
)
def test_a_recurrence_that_was_not_checked_says_what_is_wrong_and_finds_no_run(recurrence):
    assert repr(recurrence.expression) in recurrence.fault or repr(recurrence.timezone) in recurrence.fault
    with pytest.raises(InvalidOptionError):
        recurrence.next_after(utc(2026, 1, 1))


ZONES = ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/Berlin"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "expression", ["* * * * * *", "0 3 * * *", "0 0 */28 2 mon", "@yearly", "@every 36500d", "@every 31536000s"]
)
def test_no_run_lies_beyond_the_end_of_the_calendar(zone, expression):
    recurrence = parse_recurrence(expression, zone)
    for before in (timedelta(0), timedelta(seconds=1), timedelta(days=1), timedelta(days=400), timedelta(days=40_000)):
        for start in (END_OF_TIME - before, datetime.max.replace(tzinfo=UTC) - before):
            found = recurrence.next_runs(3, after=start)
            assert all(start < run < END_OF_TIME for run in found)
    assert recurrence.next_after(END_OF_TIME) is None


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
        "@every 36501d",
        "@every 999999999999d999999999999d",
        "*/61 * * * *",
        "0 1-23/25 * * *",
        "5,*/90 * * * *",
        "*/61 * * * * *",
        "0 0 */32 * *",
        "0 0 * */13 *",
        "0 0 * * */8",
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


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("*/61 * * * *", "a step of 61 is too large for the minutes, of which there are 60"),
        ("0 */25 * * *", "a step of 25 is too large for the hours, of which there are 24"),
        ("@every 0.5s", "is no interval: .* whole numbers, each with its unit"),
        ("@every 0s", "together at least one second"),
        ("@Every 5m", "is no interval: after '@every'"),
        ("@every 36501d", "longer than 36,500 days"),
        ("@dayly", "is no alias: there are @yearly"),
    ],
)
def test_a_refusal_says_what_is_wrong(expression, told):
    with pytest.raises(InvalidOptionError, match=told):
        parse_recurrence(expression)


def test_a_step_as_large_as_its_field_is_taken():
    assert runs("*/60 * * * *", 2, after=utc(2026, 1, 1)) == [utc(2026, 1, 1, 1), utc(2026, 1, 1, 2)]
    assert runs("0 */24 * * *", 1, after=utc(2026, 1, 1)) == [utc(2026, 1, 2)]
