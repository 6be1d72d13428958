"""
Index ranges: the jobs of a queue in a state, and the SQL that leads the planner to them.

Each condition repeats the condition of its index word for word, so that the planner can use the index. The order, which
no other index has, leaves it no other choice.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.postgres.codec import array, text_array
from deeper_tasks.backends.postgres.counters import Counts
from deeper_tasks.domain.state import TERMINAL, State

PENDING, RUNNING = CODES[State.PENDING], CODES[State.RUNNING]
ENDED = frozenset(CODES[state] for state in TERMINAL)
WAITING = frozenset(CODES.values()) - ENDED - {PENDING, RUNNING}


class Scope(NamedTuple):
    """A condition on jobs, and the order of the one index that leads to them."""

    condition: str
    order: str


_IS_LINE = "job.queue = line.queue AND job.state = line.state"
_WAS_MOVED = "(job.scheduled_at <> job.inserted_at OR job.state + 0 IN (1, 2, 5))"

BY_END = Scope(f"job.finished_at IS NOT NULL AND {_IS_LINE}", "job.finished_at")
"""The index `job_ended`."""
ENDED_AT_ONCE = Scope(
    f"job.finished_at IS NOT NULL AND job.scheduled_at = job.inserted_at AND {_IS_LINE}", "job.inserted_at"
)
"""The index `job_ended_at_once`: ended jobs that were due at once, and never put off."""
MOVED = Scope(f"job.state + 0 <> 4 AND {_WAS_MOVED} AND {_IS_LINE}", "job.inserted_at")
"""The index `job_moved`: all jobs that wait, and the others that were put off, except the running ones."""
MOVED_TO = Scope(f"job.state + 0 NOT IN (3, 4) AND {_WAS_MOVED} AND {_IS_LINE}", "job.scheduled_at")
"""The index `job_moved_to`: the same without the pending, by their due time."""
OF_PENDING = Scope("job.state = 3 AND job.queue = line.queue", "job.priority, job.scheduled_at, job.id")
"""The index `job_pending`."""
OF_RUNNING = Scope("job.state = 4 AND job.queue = line.queue", "job.node, job.token")
"""The index `job_running`, which does not contain the queues."""
ALL_RUNNING = Scope("job.state = 4 AND job.queue = ANY (%(running_queues)s::text[])", OF_RUNNING.order)

# Two tables in a statement: a single table the planner might read in another way for a part than for the whole.
NO_LINES = "unnest(ARRAY[1]) AS line"
ENDED_LINES = "unnest(%(ended_queues)s::text[], %(ended_states)s::smallint[]) AS line (queue, state)"
MOVED_LINES = "unnest(%(moved_queues)s::text[], %(moved_states)s::smallint[]) AS line (queue, state)"
WAITING_LINES = "unnest(%(waiting_queues)s::text[], %(waiting_states)s::smallint[]) AS line (queue, state)"
PENDING_LINES = "unnest(%(pending_queues)s::text[]) AS line (queue)"
RANKED_LINES = f"""{PENDING_LINES} CROSS JOIN LATERAL (
    WITH RECURSIVE present (priority) AS (
        (SELECT job.priority FROM job WHERE {OF_PENDING.condition} ORDER BY job.priority LIMIT 1)
        UNION ALL
        SELECT (
            SELECT job.priority FROM job
            WHERE {OF_PENDING.condition} AND job.priority > present.priority
            ORDER BY job.priority
            LIMIT 1
        )
        FROM present
        WHERE present.priority IS NOT NULL
    )
    SELECT present.priority FROM present WHERE present.priority IS NOT NULL
) AS rank"""
"""The queues with pending jobs, and the priorities that occur in each: one lookup in the index for each priority."""


def scope_of(state: int) -> Scope:
    """Return the scope of the jobs in this state."""
    if state in ENDED:
        return BY_END
    return {PENDING: OF_PENDING, RUNNING: OF_RUNNING}.get(state, MOVED_TO)


def within(counts: Counts, states: Collection[int]) -> Counts:
    """Return the counts of these states."""
    return {line: count for line, count in counts.items() if line[1] in states}


def values_of(counts: Counts) -> dict[str, str]:
    """Return the parameters of the sources above, for these queues and states."""
    ended, waiting = within(counts, ENDED), within(counts, WAITING)
    moved = {line: count for line, count in counts.items() if line[1] != RUNNING}
    return {
        "ended_queues": text_array(queue for queue, _ in ended),
        "ended_states": array(state for _, state in ended),
        "moved_queues": text_array(queue for queue, _ in moved),
        "moved_states": array(state for _, state in moved),
        "waiting_queues": text_array(queue for queue, _ in waiting),
        "waiting_states": array(state for _, state in waiting),
        "pending_queues": text_array(queue for queue, _ in within(counts, {PENDING})),
        "running_queues": text_array(queue for queue, _ in within(counts, {RUNNING})),
    }
