"""Cursors: the position at which the next page of a list begins, as text."""

from __future__ import annotations

import base64
import binascii
import re

import msgspec
from msgspec import Struct

from deeper_tasks.backends.protocol import Cursor, JobQuery, SortKey
from deeper_tasks.domain.id_forms import IdForm
from deeper_tasks.errors import InvalidOptionError

_STORED = re.compile(r"-?infinity|-?\d{1,19}|\d{4,6}-[-:. 0-9]{1,30}\+00( BC)?")


class _PageCursor(Struct, frozen=True, kw_only=True):
    """A position in a list, with the order of that list: in another order it is another position."""

    after: Cursor
    sort_by: SortKey
    is_descending: bool


def read_cursor(text: str, *, sort_by: SortKey, is_descending: bool, ids: IdForm) -> Cursor:
    """
    Return the position that a `next_cursor` names; `ids` is the form of the store's ids.

    Raises:
        InvalidOptionError: it is no cursor, or that of a list in another order.
    """
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text.encode()), type=_PageCursor)
        after = cursor.after
        is_naive = after.value is not None and after.value.tzinfo is None
        is_stored = after.stored is None or _STORED.fullmatch(after.stored) is not None
    except (AttributeError, binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise InvalidOptionError(f"{text!r} is not a cursor; give the next_cursor of the previous page") from error
    if is_naive or not is_stored or ids.parse(after.id) != after.id:
        raise InvalidOptionError(f"{text!r} is not a cursor; give the next_cursor of the previous page")
    if (cursor.sort_by, cursor.is_descending) != (sort_by, is_descending):
        raise InvalidOptionError(
            f"the cursor belongs to a list by {_order(cursor.sort_by, is_descending=cursor.is_descending)}, and this "
            f"list is by {_order(sort_by, is_descending=is_descending)}; ask in the cursor's order, "
            "or begin this list without a cursor"
        )
    return after


def write_cursor(after: Cursor, query: JobQuery) -> str:
    """Return the text that names a position in the answer to a query."""
    cursor = _PageCursor(after=after, sort_by=query.sort_by, is_descending=query.is_descending)
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def _order(sort_by: SortKey, *, is_descending: bool) -> str:
    return f"{sort_by}, {'descending' if is_descending else 'ascending'}"
