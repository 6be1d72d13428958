"""The statistics of a store, made of the rows of its counters."""

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
"""The span of a counter's row: the jobs that exist now, or the jobs that ended today or in the last hour."""


def spans_of(this: int) -> dict[str, int]:
    """Return the parameters of a statement for today and the last hour, by the current bucket."""
    day, hour = today(this), last_hour(this)
    return {"day_begins": day.first, "day_ends": day.last, "hour_begins": hour.first, "hour_ends": hour.last}


def to_queue_counts(rows: Iterable[Any], settings: Iterable[QueueSettings]) -> dict[str, QueueCounts]:
    """
    Return the counts of each queue, by name.

    Each row has a queue, the code of a state, `NOW`, `TODAY` or `LAST_HOUR`, and a count.
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
    """Return the jobs that nodes hold. Each row has a node, a queue, and the numbers of claimed and of begun jobs."""
    return tuple(
        HeldJobs(node=NodeId(node), queue=queue, claimed=claimed, begun=begun)
        for node, queue, claimed, begun in rows
        if node is not None
    )
