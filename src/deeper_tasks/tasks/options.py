"""The options of an enqueue: their public form, their checks, and the checked form."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType

from deeper_tasks.domain.ids import RequestId, parse_uuid
from deeper_tasks.domain.job import HIGHEST_PRIORITY, LOWEST_PRIORITY
from deeper_tasks.domain.nesting import nests_too_deep, too_deep
from deeper_tasks.domain.queue_names import QUEUE_NAME_RULE, is_queue_name
from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.tasks.foreign_names import EQUIVALENT_OPTIONS
from deeper_tasks.tasks.json_values import NotJsonError, check_json, encode_json
from deeper_tasks.tasks.quoting import quoted

MAX_ATTEMPTS = 1000
MAX_TAGS = 50
MAX_TAG_LENGTH = 100
MAX_UNIQUE_KEY_LENGTH = 1000
MAX_META_BYTES = 65_536
LONGEST_DURATION = timedelta(days=36_500)
LATEST_MOMENT = datetime(9000, 1, 1, tzinfo=UTC)
"""The latest due time; an expiry and all retry delays after it still fit into the calendar."""
_EARLIEST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_SECONDS = LONGEST_DURATION.total_seconds()

Seconds = float | timedelta
"""A duration: seconds, or a `timedelta`."""


class EnqueueOptions(TypedDict, total=False):
    """
    The options of one enqueue. Durations are seconds or a `timedelta`; None takes the default.

    `queue` has 1 to 128 characters without spaces, commas, colons, `=` and `*`; its first job creates it. `priority` is
    from -100 to 100; lower runs first. `max_attempts` is from 1 to 1000 and includes the first attempt; with 1, a job
    whose worker dies after the claim for a slot is discarded, even if its code had not begun. `timeout_seconds` limits
    one attempt; `math.inf` sets no limit. `retry_delay_seconds` is the delay after the first failure; it doubles up to
    `max_retry_delay_seconds`. `tags`, at most 50, are for lists of jobs. `meta` is JSON of at most 64 KiB and 100
    levels for the handler. `expires_in_seconds` fails a job that has not started this long after it was due.
    `unique_for_seconds` and `unique="until_done"` allow only one job with the same key; the key is the task with its
    arguments, or `unique_key`. `task_id`, a UUID, makes the enqueue safe to repeat. `enqueue_patience_seconds` is how
    long the enqueue is repeated while the store does not answer; 0 lets it fail at once. `connection` is your own
    connection to the store's database; the job is enqueued in its transaction.
    """

    queue: str | None
    priority: int | None
    max_attempts: int | None
    retry_delay_seconds: Seconds | None
    max_retry_delay_seconds: Seconds | None
    timeout_seconds: Seconds | None
    unique_for_seconds: Seconds | None
    unique: Literal["until_done"] | None
    unique_key: str | None
    tags: Sequence[str] | None
    meta: Mapping[str, Any] | None
    expires_in_seconds: Seconds | None
    task_id: str | UUID | None
    delay_seconds: Seconds | None
    enqueue_patience_seconds: Seconds | None
    connection: object


class JobRequest(Struct, frozen=True, kw_only=True):
    """
    Checked options. None stands for an option that was not given; `timeout` is UNSET if not given, None for no limit.

    At most one of `unique_for` and `until_done` is set, and `unique_key` only with one of them. `connection` and
    `patience` serve the insert alone; they never become part of a job.
    """

    queue: str | None = None
    priority: int | None = None
    max_attempts: int | None = None
    retry_delay: timedelta | None = None
    max_retry_delay: timedelta | None = None
    timeout: timedelta | UnsetType | None = UNSET
    unique_for: timedelta | None = None
    until_done: bool | None = None
    unique_key: str | None = None
    tags: tuple[str, ...] | None = None
    meta: dict[str, Any] | None = None
    expires_in: timedelta | None = None
    task_id: RequestId | None = None
    delay: timedelta | None = None
    patience: timedelta | None = None
    connection: Any = None

    @property
    def is_unique(self) -> bool:
        """Whether the job holds a unique key."""
        return self.unique_for is not None or self.until_done is True


NOTHING_ASKED = JobRequest()


def parse_options(given: Mapping[str, object], *, base: JobRequest = NOTHING_ASKED) -> JobRequest:
    """
    Check options, and return them over those of `base`, such as a task's own options. None counts as not given.

    Raises:
        InvalidOptionError: an option is wrong; the message names it, its value and the way out.
    """
    fields: dict[str, Any] = {}
    for option, value in given.items():
        parse = _PARSERS.get(option)
        if parse is None:
            raise InvalidOptionError(unknown_option(option, _PARSERS))
        if value is not None:
            field, parser = parse
            fields[field] = parser(option, value)
    return merge(base, JobRequest(**fields))


def merge(base: JobRequest, given: JobRequest) -> JobRequest:
    """
    Return the options of `base`, replaced by those of `given`; one kind of uniqueness replaces the other.

    Raises:
        InvalidOptionError: the options exclude each other.
    """
    if base is NOTHING_ASKED:
        merged = given
    else:
        changes = {name: value for name, value in _stated(given) if value is not None or name == "timeout"}
        if given.is_unique:
            changes["unique_for"], changes["until_done"] = given.unique_for, given.until_done
        merged = msgspec.structs.replace(base, **changes)
    _check_unique(merged)
    check_patience(merged.patience, connection=merged.connection)
    return merged


def parse_moment(scheduled_at: datetime | Seconds, *, option: str = "scheduled_at") -> datetime | timedelta:
    """
    Check a due time: an aware datetime, or a delay. A datetime in the past makes the job due now.

    `option` is the option's name in messages.

    Raises:
        InvalidOptionError: a datetime has no zone or lies beyond `LATEST_MOMENT`, a delay is negative, or the value is
            neither.
    """
    if not isinstance(scheduled_at, datetime):
        return _not_negative(option, scheduled_at)
    if scheduled_at.utcoffset() is None:
        raise _refused(
            option,
            scheduled_at,
            "a datetime needs a time zone: datetime(…, tzinfo=UTC), or tzinfo=ZoneInfo('Europe/Berlin')",
        )
    if scheduled_at >= LATEST_MOMENT:
        raise _refused(option, scheduled_at, f"give a moment before the year {LATEST_MOMENT.year}")
    return max(scheduled_at, _EARLIEST_MOMENT)


def unknown_option(option: str, known: Mapping[str, object]) -> str:
    """Return the message about an unknown option, with its equivalent or the most similar option."""
    near = difflib.get_close_matches(option, known, n=1)
    if option in EQUIVALENT_OPTIONS:
        way_out = EQUIVALENT_OPTIONS[option]
    elif near:
        way_out = f"did you mean {near[0]!r}?"
    else:
        way_out = "there are " + ", ".join(sorted(known))
    return f"unknown option {quoted(option)}; {way_out}"


def _stated(request: JobRequest) -> list[tuple[str, Any]]:
    values = ((name, getattr(request, name)) for name in request.__struct_fields__)
    return [(name, value) for name, value in values if value is not UNSET]


def _check_unique(request: JobRequest) -> None:
    if request.unique_for is not None and request.until_done:
        message = "options 'unique' and 'unique_for_seconds' exclude each other; give one of them"
        raise InvalidOptionError(message)
    if request.unique_key is not None and not request.is_unique:
        message = (
            f"option 'unique_key' ({quoted(request.unique_key)}) has no effect alone; "
            "add unique_for_seconds=… or unique='until_done'"
        )
        raise InvalidOptionError(message)


def check_patience(patience: timedelta | None, *, connection: object) -> None:
    """Raise InvalidOptionError if both patience and a caller's connection are given."""
    if patience and connection is not None:
        message = (
            "options 'enqueue_patience_seconds' and 'connection' exclude each other: a lost connection loses your "
            "whole transaction; leave enqueue_patience_seconds out, and repeat the transaction yourself"
        )
        raise InvalidOptionError(message)


def parse_patience(value: object) -> timedelta | None:
    """Check how long an enqueue may be repeated; None stands for an option that was not given."""
    return None if value is None else _not_negative("enqueue_patience_seconds", value)


def _refused(option: str, value: object, way_out: str) -> InvalidOptionError:
    return InvalidOptionError(f"option {option!r} cannot be {quoted(value)}: {way_out}")


def _queue(option: str, value: object) -> str:
    if isinstance(value, str) and is_queue_name(value):
        return str(value)
    raise _refused(option, value, f"a queue's name has {QUEUE_NAME_RULE}")


def _whole_number(low: int, high: int) -> Callable[[str, object], int]:
    def parse(option: str, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return int(value)
        raise _refused(option, value, f"give a whole number from {low} to {high}")

    return parse


def _not_negative(option: str, value: object) -> timedelta:
    duration = _duration(option, value)
    if duration < timedelta(0):
        raise _refused(option, value, "a duration cannot be negative")
    return duration


def _positive(option: str, value: object) -> timedelta:
    duration = _duration(option, value)
    if duration <= timedelta(0):
        raise _refused(option, value, "give more than 0 seconds")
    return duration


def _positive_or_unlimited(option: str, value: object) -> timedelta | None:
    return None if value == math.inf else _positive(option, value)


def _duration(option: str, value: object) -> timedelta:
    if isinstance(value, timedelta):
        duration = value
    elif not isinstance(value, int | float) or isinstance(value, bool):
        raise _refused(option, value, "give seconds as a number, or a timedelta")
    elif not -_LONGEST_SECONDS <= value <= _LONGEST_SECONDS:
        raise _refused(option, value, f"give a number of seconds, at most {LONGEST_DURATION.days} days")
    else:
        # A timedelta would round a tiny negative number up to 0.
        duration = timedelta(seconds=min(value, -1) if value < 0 else value)
    if duration > LONGEST_DURATION:
        raise _refused(option, value, f"give at most {LONGEST_DURATION.days} days")
    return duration


def _until_done(option: str, value: object) -> bool:
    if value == "until_done":
        return True
    raise _refused(option, value, "the only value is 'until_done'; for a period use unique_for_seconds=…")


def _unique_key(option: str, value: object) -> str:
    if isinstance(value, str) and 0 < len(value) <= MAX_UNIQUE_KEY_LENGTH and value.isprintable():
        return str(value)
    raise _refused(option, value, f"give a text of 1 to {MAX_UNIQUE_KEY_LENGTH} printable characters")


def _tags(option: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence | set | frozenset):
        raise _refused(option, value, "give a list of strings, such as ['invoice', 'urgent']")
    tags = tuple(sorted(value) if isinstance(value, set | frozenset) else value)
    if len(tags) > MAX_TAGS:
        raise _refused(option, value, f"give at most {MAX_TAGS} tags, not {len(tags)}")
    for tag in tags:
        if not isinstance(tag, str) or not 0 < len(tag) <= MAX_TAG_LENGTH or not tag.isprintable():
            raise _refused(option, tag, f"a tag is a text of 1 to {MAX_TAG_LENGTH} printable characters")
    return tags


def _meta(option: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused(option, value, "give a dict with string keys and JSON values")
    try:
        check_json(meta := dict(value))
        document = encode_json(meta)
    except NotJsonError as error:
        raise _refused(option, value, f"{error.reason} (at meta{error.path})") from error
    except RecursionError as error:
        raise _refused(option, "…", "it is nested too deeply, or contains itself; give flat data") from error
    if nests_too_deep(document):
        raise _refused(option, "…", f"it is {too_deep()}")
    if len(document) > MAX_META_BYTES:
        raise _refused(option, value, f"it takes {len(document)} bytes as JSON; give at most {MAX_META_BYTES}")
    copy: dict[str, Any] = msgspec.json.decode(document)
    return copy


def _task_id(option: str, value: object) -> RequestId:
    task_id = parse_uuid(value) if isinstance(value, str | UUID) else None
    if task_id is None:
        raise _refused(option, value, "give a UUID, as text or as uuid.UUID")
    return task_id


def _connection(_: str, value: object) -> object:
    # The store checks it: only the store knows the kinds of connections that it can use.
    return value


_PARSERS: dict[str, tuple[str, Callable[[str, object], object]]] = {
    "queue": ("queue", _queue),
    "priority": ("priority", _whole_number(HIGHEST_PRIORITY, LOWEST_PRIORITY)),
    "max_attempts": ("max_attempts", _whole_number(1, MAX_ATTEMPTS)),
    "retry_delay_seconds": ("retry_delay", _not_negative),
    "max_retry_delay_seconds": ("max_retry_delay", _not_negative),
    "timeout_seconds": ("timeout", _positive_or_unlimited),
    "unique_for_seconds": ("unique_for", _positive),
    "unique": ("until_done", _until_done),
    "unique_key": ("unique_key", _unique_key),
    "tags": ("tags", _tags),
    "meta": ("meta", _meta),
    "expires_in_seconds": ("expires_in", _positive),
    "task_id": ("task_id", _task_id),
    "delay_seconds": ("delay", _not_negative),
    "enqueue_patience_seconds": ("patience", _not_negative),
    "connection": ("connection", _connection),
}
