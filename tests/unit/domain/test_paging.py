"""How a page is cut out of a list, and how many items the list is said to have."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_tasks.domain.paging import MOST_COUNTED, Total, counted, cut, reconciled


@pytest.mark.parametrize(
    ("found", "limit", "items", "end"),
    [
        ([], 2, [], None),
        ([1], 2, [1], None),
        ([1, 2], 2, [1, 2], None),
        ([1, 2, 3], 2, [1, 2], 2),
        ([1], 0, [], None),
    ],
)
def test_a_page_ends_with_a_place_where_another_follows(found, limit, items, end):
    page = cut(found, limit=limit)
    assert (page.items, page.end) == (items, end)


@settings(max_examples=30)
@given(st.lists(st.integers(), unique=True), st.integers(1, 10))
def test_the_pages_together_are_the_list(items, limit):
    seen, start = [], 0
    while True:
        page = cut(items[start : start + limit + 1], limit=limit)
        seen += page.items
        if page.end is None:
            break
        start = items.index(page.end) + 1
    assert seen == items


@pytest.mark.parametrize(
    ("count", "was_all_seen", "total"),
    [
        (7, True, Total(7, is_exact=True)),
        (7, False, Total(7, is_exact=False)),
        (MOST_COUNTED, True, Total(MOST_COUNTED, is_exact=True)),
        (MOST_COUNTED + 1, True, Total(MOST_COUNTED, is_exact=False)),
    ],
)
def test_a_count_is_exact_up_to_the_largest_and_where_all_was_seen(count, was_all_seen, total):
    assert counted(count, was_all_seen=was_all_seen) == total


def test_an_inexact_total_is_not_less_than_what_a_page_shows():
    assert reconciled(Total(5, is_exact=False), offset=10, on_page=3) == Total(13, is_exact=False)
    assert reconciled(Total(50, is_exact=False), offset=10, on_page=3) == Total(50, is_exact=False)


def test_an_exact_total_stays_and_so_does_that_of_an_empty_page():
    assert reconciled(Total(5, is_exact=True), offset=10, on_page=3) == Total(5, is_exact=True)
    assert reconciled(Total(5, is_exact=False), offset=10, on_page=0) == Total(5, is_exact=False)
