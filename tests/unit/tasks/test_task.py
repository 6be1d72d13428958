"""Tasks: their definition, and enqueueing through them."""

from __future__ import annotations

import pytest

from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.tasks import TaskId, make_task


def resize(path: str) -> int:
    return len(path)


def test_a_task_id_is_a_string_that_knows_whether_it_is_new():
    assert TaskId("a") == "a"
    assert TaskId("a").is_new
    assert not TaskId("a", is_new=False).is_new


def test_a_late_result_fails_unless_the_task_accepts_it():
    def resize(): ...

    assert not make_task(resize, name="shop.resize").accepts_late_result
    assert not make_task(resize, name="shop.resize", late_result="fail").accepts_late_result
    assert make_task(resize, name="shop.resize", late_result="accept").accepts_late_result
    for value in ("keep", "Accept", True, 1, ["accept"]):
        with pytest.raises(InvalidOptionError, match=r"option 'late_result' cannot be .*: give 'fail', or 'accept'"):
            make_task(resize, name="shop.resize", late_result=value)
