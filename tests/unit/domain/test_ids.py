"""Ids increase, whatever the clock does, and those of fired runs are the same everywhere."""

import threading
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest

from deeper_tasks.domain.ids import IdGenerator, derived_id, parse_uuid

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * 1_000_000_000


def test_an_id_is_a_uuid_of_version_7_in_canonical_form():
    made = IdGenerator().next(NOON_NS)
    assert UUID(made).version == 7
    assert UUID(made).variant == "specified in RFC 4122"
    assert str(UUID(made)) == made


def test_an_id_begins_with_its_time_in_milliseconds():
    made = UUID(IdGenerator().next(NOON_NS + 123_000_000))
    assert made.int >> 80 == NOON_NS // 1_000_000 + 123


def test_a_hundred_thousand_ids_of_one_moment_increase():
    generator = IdGenerator()
    ids = [generator.next(NOON_NS) for _ in range(100_000)]
    assert ids == sorted(set(ids))


def test_ids_increase_while_the_clock_steps_back():
    generator = IdGenerator()
    ids = [generator.next(NOON_NS - step * 1_000_000_000) for step in range(100_000)]
    assert ids == sorted(set(ids))


def test_a_later_clock_gives_a_later_id_even_after_a_burst():
    generator = IdGenerator()
    burst = [generator.next(NOON_NS) for _ in range(1000)]
    assert generator.next(NOON_NS + 1_000_000_000) > burst[-1]


def test_ids_from_several_threads_are_all_different():
    generator = IdGenerator()
    made = []

    def make():
        mine = [generator.next(NOON_NS) for _ in range(5000)]
        assert mine == sorted(mine)
        made.extend(mine)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 20_000


def test_two_generators_make_different_ids_at_the_same_moment():
    assert IdGenerator().next(NOON_NS) != IdGenerator().next(NOON_NS)


def test_a_renewed_lock_is_free():
    generator = IdGenerator()
    generator._lock.acquire()
    generator.renew_lock()
    assert generator.next(NOON_NS)


def test_the_id_of_a_run_depends_on_its_entry_and_its_moment_only():
    same_moment = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert derived_id("report", NOON) == derived_id("report", same_moment)
    assert derived_id("report", NOON) != derived_id("reports", NOON)
    assert derived_id("report", NOON) != derived_id("report", NOON + timedelta(seconds=1))


def test_the_ids_of_runs_are_uuids_that_sort_by_due_time():
    ids = [derived_id("report", NOON + timedelta(seconds=second)) for second in range(100)]
    assert ids == sorted(ids)
    assert {UUID(made).version for made in ids} == {7}
    assert UUID(ids[0]).int >> 80 == NOON_NS // 1_000_000


@pytest.mark.parametrize("form", [str, str.upper, lambda text: text.replace("-", ""), lambda text: f"{{{text}}}", UUID])
def test_every_form_of_an_id_is_brought_to_the_canonical_one(form):
    text = str(uuid4())
    assert parse_uuid(form(text)) == text


@pytest.mark.parametrize("value", ["", "42", 42, None, "not-an-id", b"x", "0" * 33])
def test_what_is_no_id_is_none(value):
    assert parse_uuid(value) is None


@pytest.mark.parametrize("text", ["\uff10" * 32, "1_" * 15 + "11", "0x" + "1" * 30, " " + "1" * 31, "+" + "1" * 31])
def test_a_number_that_only_python_reads_as_hexadecimal_is_no_id(text):
    assert parse_uuid(text) is None
