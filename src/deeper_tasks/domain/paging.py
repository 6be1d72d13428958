"""Paging: how a page is cut out of a list, and how many items the list is said to have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

MOST_COUNTED = 10_000
"""The largest total that a store counts where its counters do not have it: where a task, module or tag is given."""
MOST_LOOKED_AT = 50_000
"""The largest number of jobs that a store looks at to count them."""


class Page(NamedTuple, Generic[T]):
    """
    The items of a page.

    `end` is the item after which the next page begins; None: there is no next page.
    """

    items: Sequence[T]
    end: T | None


class Total(NamedTuple):
    """The number of items of a list. If it is not exact there are at least so many."""

    number: int
    is_exact: bool


def cut(found: Sequence[T], *, limit: int) -> Page[T]:
    """Return the page that the first items from its beginning make; a caller asks for one more than `limit`."""
    items = found[:limit]
    return Page(items, items[-1] if items and len(found) > limit else None)


def counted(count: int, *, was_all_seen: bool = True) -> Total:
    """
    Return the total for a count that went on to one more than `MOST_COUNTED` at most.

    `was_all_seen`: no item was left out of the count for want of `MOST_LOOKED_AT`.
    """
    return Total(min(count, MOST_COUNTED), was_all_seen and count <= MOST_COUNTED)


def reconciled(total: Total, *, offset: int, on_page: int) -> Total:
    """Return a total that is not less than what a page shows: an inexact one may be."""
    if total.is_exact or not on_page:
        return total
    return Total(max(total.number, offset + on_page), is_exact=False)
