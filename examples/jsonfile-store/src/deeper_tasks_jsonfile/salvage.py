"""The salvage of a document, a part of which cannot be read: all else is kept, and what is damaged is marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from deeper_tasks.backends.protocol import Node, NodeRecord, QueueSettings
from deeper_tasks.backends.reading import UNREADABLE, Reading, unknown_schedule
from deeper_tasks.domain.damage import LATEST, Damage
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.schedule import ScheduleEntry
from deeper_tasks.domain.schedule_run import RunOutcome, ScheduleRun
from deeper_tasks.domain.state import State
from deeper_tasks_jsonfile.document import Document, Hold, Record, Request

_list = msgspec.json.Decoder(list[Raw])


class _Parts(Struct, kw_only=True):
    """A document whose parts are still text."""

    version: int
    last_number: int = 0
    jobs: dict[str, Raw] = {}
    requests: dict[str, Raw] = {}
    keys: dict[str, Raw] = {}
    nodes: dict[str, Raw] = {}
    tasks: Raw = Raw(b"{}")
    queues: dict[str, Raw] = {}
    entries: dict[str, Raw] = {}
    runs: dict[str, Raw] = {}
    ended: Raw = Raw(b"{}")


def salvage(text: bytes) -> Document:
    """
    Return the readable part of a document. The rest is marked, and the next change of the file drops it.

    Raises:
        DecodeError: it is no JSON, or none of this store.
    """
    parts = msgspec.json.decode(text, type=_Parts)
    keys = _all(parts.keys, Hold | None, lambda *_: None)
    requests = _all(parts.requests, Request | None, lambda *_: None)
    return Document(
        version=parts.version,
        last_number=parts.last_number,
        jobs=_all(parts.jobs, Record, _record),
        requests={name: request for name, request in requests.items() if request is not None},
        keys={key: hold for key, hold in keys.items() if hold is not None},
        nodes=_all(parts.nodes, NodeRecord, _node),
        tasks=_each("", parts.tasks, dict[NodeId, frozenset[str]], lambda *_: {}),
        queues=_all(parts.queues, QueueSettings, _queue),
        entries=_all(parts.entries, ScheduleEntry, _entry),
        runs=_all(parts.runs, list[ScheduleRun], _runs),
        ended=_each("", parts.ended, dict[int, dict[str, dict[State, int]]], lambda *_: {}),
    )


def _all(parts: dict[str, Raw], kind: Any, instead: Callable[[str, Raw], Any]) -> dict[Any, Any]:
    return {name: _each(name, part, kind, instead) for name, part in parts.items()}


def _each(name: str, part: Raw, kind: Any, instead: Callable[[str, Raw], Any]) -> Any:
    try:
        return msgspec.json.decode(part, type=kind)
    except UNREADABLE:
        return instead(name, part)


def _record(name: str, part: Raw) -> Record:
    reading = Reading()
    nothing: dict[str, Raw] = {}
    parts = reading.field("job", lambda: msgspec.json.decode(part, type=dict[str, Raw]), instead=nothing)
    job = reading.struct(
        Job,
        parts.pop("job", Raw(b"{}")),
        id=JobId(name),
        state=State.BLOCKED,
        task="",
        arguments="",
        queue="",
        priority=0,
        attempt=0,
        max_attempts=1,
        inserted_at=LATEST,
        scheduled_at=LATEST,
        **dict.fromkeys(("attempted_at", "finished_at", "expires_at"), LATEST),
    )
    record = reading.struct(Record, msgspec.json.encode(parts), job=job, original_max_attempts=1)
    record.change(damage=_damage(reading, without="job"))
    return record


def _node(name: str, part: Raw) -> NodeRecord:
    reading = Reading()
    unknown = Node(id=NodeId(name), name=name, host="", scope="", pid=0, pid_started="", queues={})
    times = {"registered_at": LATEST, "beat_at": LATEST}
    record = reading.struct(NodeRecord, part, node=unknown, beat=0, busy=0, **times)
    return replace(record, damage=_damage(reading))


def _queue(name: str, part: Raw) -> QueueSettings:
    reading = Reading()
    return replace(reading.struct(QueueSettings, part, name=name, paused_at=LATEST), damage=_damage(reading))


def _entry(name: str, part: Raw) -> ScheduleEntry:
    reading = Reading()
    entry = reading.struct(ScheduleEntry, part, schedule=unknown_schedule(name), next_run=LATEST, paused_at=LATEST)
    return replace(entry, damage=_damage(reading))


def _runs(_: str, part: Raw) -> list[ScheduleRun]:
    return list(Reading().parts("runs", Reading().field("runs", lambda: _list.decode(part), instead=[]), _run))


def _run(part: Raw) -> ScheduleRun:
    reading = Reading()
    run = reading.struct(ScheduleRun, part, due=LATEST, fired_at=LATEST, outcome=RunOutcome.UNREADABLE)
    return replace(run, damage=_damage(reading))


def _damage(reading: Reading, *, without: str = "") -> tuple[Damage, ...]:
    return tuple(each for each in reading.damage if each.field != without)
