"""Counting: what the counters of a database say, as the statistics tell it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from deeper_tasks.backends.buckets import last_hour, today
from deeper_tasks.backends.codes import STATES
from deeper_tasks.backends.protocol import HeldJobs, QueueCounts, QueueSettings
from deeper_tasks.backends.reading import read_count
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.state import State

NOW, TODAY, LAST_HOUR = "now", "today", "last hour"
"""The subject of a counter's row: the jobs there are, or those that ended in a span of time."""


def spans_of(this: int) -> dict[str, int]:
    """Return the parameters that tell a statement, from the current bucket, what today and the last hour are."""
    day, hour = today(this), last_hour(this)
    return {"day_begins": day.first, "day_ends": day.last, "hour_begins": hour.first, "hour_ends": hour.last}


def to_queue_counts(rows: Iterable[Any], settings: Iterable[QueueSettings]) -> dict[str, QueueCounts]:
    """
    Return the counts of each queue, by name.

    Each row is a queue, the code of a state, `NOW`, `TODAY` or `LAST_HOUR`, and a count.
    """
    counted: dict[str, defaultdict[str, dict[State, int]]] = {
        NOW: defaultdict(dict),
        TODAY: defaultdict(dict),
        LAST_HOUR: defaultdict(dict),
    }
    damage: defaultdict[str, list[Damage]] = defaultdict(list)
    names = set()
    for queue, code, span, count in rows:
        if code in STATES:
            names.add(queue)
            counted[span][queue][STATES[code]] = read_count(STATES[code], count, damage[queue])
    known = {each.name: each for each in settings}
    return {
        name: QueueCounts(
            by_state={state: counted[NOW][name].get(state, 0) for state in State},
            ended_today={state: count for state, count in counted[TODAY][name].items() if count},
            ended_last_hour={state: count for state, count in counted[LAST_HOUR][name].items() if count},
            paused_at=known[name].paused_at if name in known else None,
            damage=(*(known[name].damage if name in known else ()), *damage[name]),
        )
        for name in sorted(names | known.keys())
    }


def to_held(rows: Iterable[Any]) -> tuple[HeldJobs, ...]:
    """Return what nodes hold. Each row is a node, a queue, and how many jobs are claimed and begun."""
    return tuple(
        HeldJobs(node=NodeId(node), queue=queue, claimed=claimed, begun=begun)
        for node, queue, claimed, begun in rows
        if node is not None
    )
