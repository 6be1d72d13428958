"""Durations, as people read them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deeper_tasks.domain.durations import readable


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (0.000_012, "12 µs"),
        (0.0123, "12.3 ms"),
        (0.25, "250 ms"),
        (0.999_9, "1 s"),
        (1, "1 s"),
        (10.04, "10 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (60, "1 min 0 s"),
        (99.6, "1 min 40 s"),
        (3599.7, "1 h 0 min"),
        (3600, "1 h 0 min"),
        (7040, "1 h 57 min"),
        (86_399.9, "1 d 0 h"),
        (86_400 * 3 + 3600 * 5 + 1, "3 d 5 h"),
        (86_400 * 36_500, "36500 d 0 h"),
        (-90, "-1 min 30 s"),
    ],
)
def test_a_duration_is_told_in_the_units_that_people_read(seconds, told):
    assert readable(seconds) == told
    assert readable(timedelta(seconds=seconds)) == told
