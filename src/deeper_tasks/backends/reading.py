"""The reading of a damaged row: readable fields are read, and each other field is noted and gets a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from deeper_tasks.backends.codes import STATES
from deeper_tasks.backends.protocol import Node
from deeper_tasks.domain.cron import Recurrence
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.job import AttemptError, JobOptions, JobSpec, Json, Progress
from deeper_tasks.domain.nesting import MAX_READABLE_NESTING, nests_too_deep, too_deep
from deeper_tasks.domain.schedule import Schedule
from deeper_tasks.domain.schedule_run import RunOutcome
from deeper_tasks.domain.state import State

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, LookupError, OverflowError, RecursionError)
"""The errors that reading a damaged row raises."""

_options = msgspec.json.Decoder(JobOptions)
_progress = msgspec.json.Decoder(Progress)
_errors = msgspec.json.Decoder(tuple[AttemptError, ...])
_error = msgspec.json.Decoder(AttemptError)
_lines = msgspec.json.Decoder(tuple[str, ...])
_line = msgspec.json.Decoder(str)
_node = msgspec.json.Decoder(Node)
_schedule = msgspec.json.Decoder(Schedule)
_parts = msgspec.json.Decoder(list[msgspec.Raw])
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

COUNTERS = "counters"
"""The name of the field in the damage of a queue's counters."""
_MOST_JOBS = 10**12

NO_OPTIONS = JobOptions()


class Reading:
    """
    The reading of one row, field by field. A store uses it when reading the row as a whole has failed.

    `damage` lists the fields that could not be read so far.
    """

    def __init__(self) -> None:
        self.damage: list[Damage] = []

    def note(self, field: str, reason: str) -> None:
        """Note a field that cannot be read."""
        self.damage.append(Damage(field=field, reason=reason))

    def field(self, field: str, read: Callable[[], T], *, instead: T) -> T:
        """Return the result of `read`; if that fails, note the field and return `instead`."""
        try:
            return read()
        except UNREADABLE as error:
            self.note(field, reason_of(error))
            return instead

    def parts(self, field: str, parts: Iterable[Any], read: Callable[[Any], T]) -> tuple[T, ...]:
        """Return the parts of a field that can be read. The others are noted together."""
        found: list[T] = []
        lost: list[str] = []
        for part in parts:
            try:
                found.append(read(part))
            except UNREADABLE as error:
                lost.append(reason_of(error))
        if lost:
            self.note(field, f"{len(lost)} of {len(lost) + len(found)} entries: {lost[0]}")
        return tuple(found)

    def struct(self, kind: type[S], document: bytes | str | msgspec.Raw, **stand_ins: Any) -> S:
        """
        Return the struct of a JSON object, read field by field.

        A field that is missing or cannot be read gets its stand-in or its default; it must have one of the two.
        """
        nothing: dict[str, msgspec.Raw] = {}
        parts = self.field("document", lambda: _object.decode(document), instead=nothing)
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            stand_in = stand_ins.get(field.name, _default_of(field))
            part = parts.get(field.encode_name)
            if part is not None:
                values[field.name] = self.field(field.name, partial(_converted, part, field.type), instead=stand_in)
            elif field.required:
                self.note(field.name, "it is missing")
                values[field.name] = stand_in
        return kind(**values)

    # the fields of a job

    def attempts(self, attempt: int, max_attempts: int, original_max_attempts: int) -> None:
        """Note the numbers of attempts of a job that are impossible."""
        if attempt < 0:
            self.note("attempt", "it is less than 0")
        for field, number in (("max_attempts", max_attempts), ("original_max_attempts", original_max_attempts)):
            if number < 1:
                self.note(field, "it is less than 1")

    def state(self, code: int) -> State:
        """Return the state of a code. An unknown code reads as blocked, so that the job does not run."""
        return self.field("state", lambda: to_state(code), instead=State.BLOCKED)

    def options(self, document: Json | None) -> JobOptions:
        """Return a job's options; the defaults if they cannot be read."""
        return self.field("options", lambda: to_options(document), instead=NO_OPTIONS)

    def progress(self, document: Json | None) -> Progress | None:
        """Return a job's progress; None if it cannot be read."""
        return self.field("progress", lambda: to_progress(document), instead=None)

    def errors(self, document: Json | None) -> tuple[AttemptError, ...]:
        """Return the errors of a job that can be read."""
        return self.parts("errors", self._listed("errors", document), _error.decode)

    def log(self, document: Json | None) -> tuple[str, ...]:
        """Return the lines of a job's log that can be read."""
        return self.parts("log", self._listed("log", document), _line.decode)

    def _listed(self, field: str, document: Json | None) -> list[msgspec.Raw]:
        return self.field(field, lambda: _parts.decode(document) if document else [], instead=[])


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default is msgspec.NODEFAULT and not field.required else field.default


def _converted(part: msgspec.Raw, kind: Any) -> Any:
    if nests_too_deep(bytes(part), most=MAX_READABLE_NESTING):
        raise ValueError(too_deep(MAX_READABLE_NESTING))
    return msgspec.json.decode(part, type=kind)


def reason_of(error: BaseException) -> str:
    """Return in words why a value cannot be read."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, OverflowError):
        return "it lies outside of the calendar"
    if isinstance(error, LookupError):
        return "it is none of the known values"
    return str(error) or type(error).__name__


def is_count(count: int) -> bool:
    """Return whether a counter may be right: no store has a trillion jobs."""
    return 0 <= count <= _MOST_JOBS


def read_count(state: State, count: int, damage: list[Damage]) -> int:
    """Return the count of a state; if it cannot be right, note that and return 0."""
    if is_count(count):
        return count
    damage.append(Damage(field=COUNTERS, reason=f"{count:,} {state} jobs"))
    return 0


def are_attempts(attempt: int, max_attempts: int, original_max_attempts: int) -> bool:
    """Return whether the numbers of a job's attempts are possible."""
    return attempt >= 0 and max_attempts >= 1 and original_max_attempts >= 1


def to_state(code: int) -> State:
    """Return the state of a code. Raises ValueError."""
    try:
        return STATES[code]
    except KeyError:
        message = f"the code {code} is that of no state"
        raise ValueError(message) from None


def to_options(document: Json | None) -> JobOptions:
    """Read a job's options."""
    if not document:
        return NO_OPTIONS
    if nests_too_deep(document, most=MAX_READABLE_NESTING):
        raise ValueError(too_deep(MAX_READABLE_NESTING))
    return _options.decode(document)


def to_progress(document: Json | None) -> Progress | None:
    """Read a job's progress."""
    return _progress.decode(document) if document else None


def to_errors(document: Json | None) -> tuple[AttemptError, ...]:
    """Read a job's errors from one document."""
    return _errors.decode(document) if document else ()


def to_lines(document: Json | None) -> tuple[str, ...]:
    """Read a job's log from one document."""
    return _lines.decode(document) if document else ()


def to_outcome(value: str) -> RunOutcome:
    """Return the outcome of a run. Raises ValueError."""
    return RunOutcome(value)


def read_node(node: NodeId, document: Json, reading: Reading) -> Node:
    """Return the node that a document describes. A node that cannot be read has only its id."""
    return reading.field("node", lambda: _node.decode(document), instead=_unknown_node(node))


def stand_in(missing: str) -> Node:
    """Return a node for the running jobs of a missing one. It never beats, so its jobs are rescued."""
    return _unknown_node(NodeId(f"missing-{missing}"))


def _unknown_node(node: NodeId) -> Node:
    return Node(id=node, name=node, host="", scope="", pid=0, pid_started="", queues={})


def read_schedule(name: str, document: Json, reading: Reading) -> Schedule:
    """Return the schedule that a document describes. A schedule that cannot be read has only its name."""
    return reading.field("document", lambda: _schedule.decode(document), instead=unknown_schedule(name))


def read_removed(rows: Iterable[Sequence[Any]]) -> tuple[Schedule, ...]:
    """Return the schedules of rows of a name and a document, without those that cannot be read."""
    removed = []
    for name, document in rows:
        reading = Reading()
        schedule = read_schedule(name, document, reading)
        if not reading.damage:
            removed.append(schedule)
    return tuple(removed)


def unknown_schedule(name: str) -> Schedule:
    """Return the stand-in for a schedule of which only the name can be read."""
    spec = JobSpec(task="", arguments="[[],{}]", queue="")
    return Schedule(name=name, recurrence=Recurrence(expression=""), spec=spec)
