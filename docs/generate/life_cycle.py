"""The life cycle of a job: the picture and the table of its transitions."""

from __future__ import annotations

from docs.generate.markdown import NOTICE, table

from deeper_tasks.domain.state import DEAD_LETTER, TERMINAL, TRANSITIONS, State

_MEANINGS = {
    State.SCHEDULED: "due in the future",
    State.BLOCKED: "waits for other jobs",
    State.PENDING: "may run now",
    State.RUNNING: "claimed by a worker",
    State.RETRYABLE: "an attempt failed, the next is due later",
    State.COMPLETED: "done",
    State.FAILED: "ended by an error that no retry can mend; the job's errors say which",
    State.DISCARDED: "used up its attempts",
    State.CANCELLED: "stopped by request",
}


def life_cycle() -> str:
    """Return the page."""
    return f"""{NOTICE}
# The life cycle of a job

```mermaid
stateDiagram-v2
{_picture()}```

## States

{_states()}
Jobs in `failed` and `discarded` are the dead letters. A job that has ended keeps its state: only an operator's retry
leads from `failed`, `discarded` and `cancelled` back to `pending`, and nothing leads away from `completed`.

## Transitions

{_transitions()}
Every store makes exactly these transitions. [How jobs are delivered](../explanation/delivery.md) lists the promises
about them.
"""


def _picture() -> str:
    causes: dict[tuple[State, State], list[str]] = {}
    for step in TRANSITIONS:
        causes.setdefault((step.before, step.after), []).append(step.cause.value)
    lines = ["[*] --> pending: enqueued", "[*] --> scheduled: enqueued for later"]
    lines += [f"{before} --> {after}: {' / '.join(why)}" for (before, after), why in causes.items()]
    lines += [f"{state} --> [*]" for state in State if state in TERMINAL]
    return "".join(f"    {line}\n" for line in lines)


def _states() -> str:
    kinds = {state: "dead letter" if state in DEAD_LETTER else "ended" if state in TERMINAL else "" for state in State}
    return table(["state", "meaning", ""], ([f"`{state}`", _MEANINGS[state], kinds[state]] for state in State))


def _transitions() -> str:
    rows = ([f"`{step.before}`", step.cause.value, f"`{step.after}`"] for step in TRANSITIONS)
    return table(["from", "because", "to"], rows)
