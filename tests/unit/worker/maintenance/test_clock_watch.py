"""The clock watch: a step of the wall clock is noticed against the monotonic one, and forgiven in the end."""

from datetime import UTC, datetime, timedelta

import pytest

from deeper_tasks.worker.maintenance.clock_watch import PATIENCE, TOLERANCE, ClockWatch

NOW = datetime(2031, 5, 14, tzinfo=UTC)
YEAR = timedelta(days=365)
MINUTE = timedelta(minutes=1)


class Watched:
    """A watch, with the time that has passed since its first look and what the wall clock is wrong by."""

    def __init__(self):
        self.watch = ClockWatch()
        self.passed = timedelta(0)

    def look(self, wrong_by=timedelta(0), *, after=MINUTE):
        self.passed += after
        return self.watch.believes(NOW + self.passed + wrong_by, monotonic=1000 + self.passed.total_seconds())


@pytest.fixture
def watched():
    return Watched()


@pytest.mark.parametrize("wrong_by", [timedelta(0), timedelta(seconds=3), TOLERANCE, -TOLERANCE])
def test_a_clock_that_goes_on_or_is_set_a_little_is_believed(watched, wrong_by):
    assert watched.look()
    assert watched.look(wrong_by)
    assert watched.look(wrong_by, after=YEAR)


@pytest.mark.parametrize("step", [YEAR, -YEAR])
def test_a_clock_that_steps_far_is_not_believed(watched, step):
    watched.look()
    assert not watched.look(step)
    assert not watched.look(step)


def test_a_step_is_told_once_until_the_clock_is_back(watched, caplog):
    for wrong_by in (0 * YEAR, YEAR, YEAR, 0 * YEAR, -YEAR, -YEAR):
        watched.look(wrong_by)
    assert [record.args[0] for record in caplog.records] == ["365 d 0 h", "-365 d 0 h"]


def test_a_clock_that_comes_back_is_believed_at_once(watched):
    watched.look()
    assert not watched.look(YEAR)
    assert watched.look()


def test_a_clock_that_stays_where_it_stepped_to_is_believed_in_the_end(watched):
    watched.look()
    assert not watched.look(YEAR)
    assert not watched.look(YEAR, after=PATIENCE - MINUTE)
    assert watched.look(YEAR, after=MINUTE)
    assert not watched.look()


def test_a_clock_that_steps_again_must_go_on_steadily_anew(watched):
    watched.look()
    assert not watched.look(YEAR, after=MINUTE)
    assert not watched.look(2 * YEAR, after=PATIENCE)
    assert not watched.look(2 * YEAR, after=PATIENCE - MINUTE)
    assert watched.look(2 * YEAR)
