"""
Lines: the jobs of a queue in a state, and the words that lead the planner to them.

Each condition here says word for word what its index is restricted to, so that
the planner can use it, and says nothing that lets it use another.
"""

from __future__ import annotations

from collections.abc import Collection

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.postgres.codec import array, text_array
from deeper_tasks.backends.postgres.counters import Counts
from deeper_tasks.domain.state import TERMINAL, State

PENDING, RUNNING = CODES[State.PENDING], CODES[State.RUNNING]
ENDED = frozenset(CODES[state] for state in TERMINAL)
WAITING = frozenset(CODES.values()) - ENDED - {PENDING, RUNNING}

_IS_LINE = "job.queue = line.queue AND job.state = line.state"
_WAS_MOVED = "(job.scheduled_at <> job.inserted_at OR job.state + 0 IN (1, 2, 5))"

BY_END = f"job.finished_at IS NOT NULL AND {_IS_LINE}"
"""The index `job_ended`."""
ENDED_AT_ONCE = f"job.finished_at IS NOT NULL AND job.scheduled_at = job.inserted_at AND {_IS_LINE}"
"""The index `job_ended_at_once`, by the time of insertion: ended jobs that were due at once, and never put off."""
MOVED = f"job.state + 0 <> 4 AND {_WAS_MOVED} AND {_IS_LINE}"
"""The index `job_moved`, by the time of insertion: all others but the running, and what waits."""
MOVED_TO = f"job.state + 0 NOT IN (3, 4) AND {_WAS_MOVED} AND {_IS_LINE}"
"""The index `job_moved_to`, by the due time: the same without the pending."""
OF_PENDING: str = "job.state = 3 AND job.queue = line.queue"
"""The index `job_pending`, by priority and due time."""
OF_RUNNING: str = "job.state = 4"
"""The index `job_running`. It does not know the queues."""

ENDED_LINES = "unnest(%(ended_queues)s::text[], %(ended_states)s::smallint[]) AS line (queue, state)"
MOVED_LINES = "unnest(%(moved_queues)s::text[], %(moved_states)s::smallint[]) AS line (queue, state)"
WAITING_LINES = "unnest(%(waiting_queues)s::text[], %(waiting_states)s::smallint[]) AS line (queue, state)"
PENDING_LINES = "unnest(%(pending_queues)s::text[]) AS line (queue)"
RANKED_LINES = f"""{PENDING_LINES} CROSS JOIN LATERAL (
    WITH RECURSIVE present (priority) AS (
        (SELECT job.priority FROM job WHERE {OF_PENDING} ORDER BY job.priority LIMIT 1)
        UNION ALL
        SELECT (
            SELECT job.priority FROM job
            WHERE {OF_PENDING} AND job.priority > present.priority
            ORDER BY job.priority
            LIMIT 1
        )
        FROM present
        WHERE present.priority IS NOT NULL
    )
    SELECT present.priority FROM present WHERE present.priority IS NOT NULL
) AS rank"""
"""The queues with pending jobs, and in each the priorities that occur: one step in the index for each of these."""


def scope_of(state: int) -> str:
    """Return the condition of one line, whose state this is."""
    if state in ENDED:
        return BY_END
    return {PENDING: OF_PENDING, RUNNING: f"{OF_RUNNING} AND job.queue = line.queue"}.get(state, MOVED_TO)


def within(counts: Counts, states: Collection[int]) -> Counts:
    """Return the lines of these states, and how many jobs each has."""
    return {line: count for line, count in counts.items() if line[1] in states}


def values_of(counts: Counts) -> dict[str, str]:
    """Return the parameters of the sources above, for these lines."""
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
