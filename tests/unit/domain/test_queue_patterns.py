"""Which of a worker's entries serves a queue: the exact name before a pattern, a longer pattern before a shorter."""

import pytest

from deeper_tasks.domain.queue_names import is_queue_name
from deeper_tasks.domain.queue_patterns import QueuePattern, ServedQueues, end_of_prefix


@pytest.mark.parametrize(
    ("queue", "entry"),
    [
        ("tenant-vip", "tenant-vip"),
        ("tenant-eu-7", "tenant-eu-*"),
        ("tenant-us-7", "tenant-*"),
        ("tenant-", "tenant-*"),
        ("tenant", "*"),
        ("emails", "*"),
    ],
)
def test_an_exact_name_wins_over_a_pattern_and_a_longer_pattern_over_a_shorter(queue: str, entry: str):
    served = ServedQueues(["*", "tenant-*", "tenant-eu-*", "tenant-vip"])
    assert served.entry_for(queue) == entry
    assert queue in served


def test_a_queue_that_no_entry_fits_is_not_served():
    served = ServedQueues({"default": 10, "tenant-*": 2})
    assert served.entry_for("emails") is None
    assert "emails" not in served


def test_a_pattern_leaves_out_what_other_entries_serve():
    served = ServedQueues(["*", "tenant-*", "tenant-eu-*", "tenant-vip", "emails"])
    pattern = served.pattern_of("tenant-*")
    assert pattern == QueuePattern(
        prefix="tenant-", excluded=frozenset({"tenant-vip"}), excluded_prefixes=("tenant-eu-",)
    )
    queues = ["emails", "tenant-1", "tenant-eu-1", "tenant-vip", "tenant-vip-2", "other"]
    assert [queue for queue in queues if pattern.matches(queue)] == ["tenant-1", "tenant-vip-2"]
    assert [queue for queue in queues if served.pattern_of("*").matches(queue)] == ["other"]


def test_the_end_of_a_prefix_comes_after_all_names_that_begin_with_it():
    names = ["tenant-", "tenant-\U0010fffd\U0010fffd", "tenant."]
    assert sorted([*names, end_of_prefix("tenant-")]) == [*names[:2], end_of_prefix("tenant-"), names[2]]
    assert max("\U0010fffd", end_of_prefix("")) == end_of_prefix("")


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a:b", "a=b", "=", "*", "a*", "*a", "a*b", "a\n", "x" * 129])
def test_a_name_with_a_separator_or_a_wildcard_is_no_queues(name: str):
    assert not is_queue_name(name)


@pytest.mark.parametrize("name", ["default", "tenant-7", "Rechnungen/ä", "x" * 128])
def test_other_names_are_a_queues(name: str):
    assert is_queue_name(name)
