"""The schedule of a task: what its decorator may say of its due times, and what is refused at once."""

import pytest

from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.schedule import MissedRuns, Overlap
from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.tasks import TaskSchedule, make_task, task


async def report(day: str = "today", *rest: int, loud: bool = False, **more: int): ...


def test_a_task_without_a_cron_is_not_due_by_itself():
    assert make_task(report).schedule is None


def test_a_cron_says_when_a_task_is_due():
    made = make_task(report, cron="0 3 * * *", timezone="Europe/Berlin", missed_runs="skip", overlap="skip")
    assert made.schedule == TaskSchedule(
        recurrence=parse_recurrence("0 3 * * *", "Europe/Berlin"),
        missed_runs=MissedRuns.SKIP,
        overlap=Overlap.SKIP,
    )


@pytest.mark.parametrize("cron", ["*/5 * * * *", "30 0 3 * * *", "@daily", "@every 30s"])
def test_a_cron_alone_is_read_in_utc_and_makes_up_for_one_missed_run(cron):
    assert make_task(report, cron=cron).schedule == TaskSchedule(recurrence=parse_recurrence(cron))


def test_the_decorator_of_packages_takes_a_cron():
    assert task(cron="@hourly")(report).schedule == TaskSchedule(recurrence=parse_recurrence("@hourly"))


def test_policies_may_be_given_as_their_enums():
    made = make_task(report, cron="@daily", missed_runs=MissedRuns.ALL, overlap=Overlap.SKIP)
    assert (made.schedule.missed_runs, made.schedule.overlap) == (MissedRuns.ALL, Overlap.SKIP)


def test_a_cron_does_not_change_what_the_task_asks_of_its_jobs():
    assert make_task(report, cron="@daily", queue="mail").request == make_task(report, queue="mail").request


@pytest.mark.parametrize("cron", ["61 * * * *", "", "@sometimes", "@every 0s", 5, ["@daily"]])
def test_a_cron_that_cannot_be_used_is_refused_by_the_decorator(cron):
    with pytest.raises(InvalidOptionError) as caught:
        make_task(report, cron=cron)
    assert repr(cron) in str(caught.value)


@pytest.mark.parametrize("zone", ["Mars/Base", "", 1])
def test_a_zone_that_cannot_be_used_is_refused_by_the_decorator(zone):
    with pytest.raises(InvalidOptionError) as caught:
        make_task(report, cron="@daily", timezone=zone)
    assert repr(zone) in str(caught.value)


@pytest.mark.parametrize("option", ["missed_runs", "overlap"])
@pytest.mark.parametrize("value", ["sometimes", [], 1])
def test_a_policy_that_there_is_not_is_refused_by_the_decorator(option, value):
    with pytest.raises(InvalidOptionError, match=r"use one of .*'skip'") as caught:
        make_task(report, cron="@daily", **{option: value})
    assert repr(option) in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"), [("timezone", "Europe/Berlin"), ("missed_runs", "all"), ("overlap", "skip")]
)
def test_an_option_of_times_without_a_cron_is_refused(option, value):
    with pytest.raises(InvalidOptionError, match="add an option such as cron=") as caught:
        make_task(report, **{option: value})
    assert repr(option) in str(caught.value)
    assert repr(value) in str(caught.value)


def test_a_cron_of_none_means_no_due_times_whatever_stands_beside_it():
    assert make_task(report, cron=None, timezone="Europe/Berlin", overlap="skip").schedule is None


async def one(user_id): ...
async def keyword(*, user_id): ...
async def second(day="today", *, user_id: int): ...


@pytest.mark.parametrize("function", [one, keyword, second])
def test_a_parameter_without_a_default_is_refused_by_name(function):
    with pytest.raises(InvalidOptionError, match=rf"{function.__name__} .*'user_id' has no default") as caught:
        make_task(function, cron="@daily")
    assert "schedule_recurring_task" in str(caught.value)


def test_an_unknown_option_near_a_known_one_is_named():
    with pytest.raises(InvalidOptionError, match="did you mean 'timezone'"):
        make_task(report, cron="@daily", time_zone="UTC")
