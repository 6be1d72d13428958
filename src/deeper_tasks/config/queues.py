"""The queues of a worker: names or patterns with their slots, parsed from `default:20,emails:5,tenant-*:2`."""

from __future__ import annotations

from collections.abc import Mapping

from deeper_tasks.domain.queue_names import QUEUE_NAME_RULE, is_queue_name
from deeper_tasks.domain.queue_patterns import WILDCARD, prefix_of
from deeper_tasks.errors import ConfigError

DEFAULT_CONCURRENCY = 10
MAX_CONCURRENCY = 10_000


def parse_queues(text: str) -> dict[str, int]:
    """
    Return how many jobs of each queue run at once, from a text such as `default:20,emails:5`.

    A name without a number, such as `emails`, gets 10. An entry may be a pattern, `tenant-*` or `*`: the queues that it
    matches share its slots.

    Raises:
        ConfigError: an entry is wrong; the message names it and the way out.
    """
    queues: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, count = (piece.strip() for piece in part.partition(":"))
        if not colon:
            count = str(DEFAULT_CONCURRENCY)
        if "=" in part or not (count.isascii() and count.isdigit() and len(count) < len(str(MAX_CONCURRENCY)) + 1):
            message = (
                f"{part!r} is not a queue with its slots; write the name, and how many of its jobs run at once, "
                "such as 'emails:5'"
            )
            raise ConfigError(message)
        if name in queues:
            message = f"queue {name!r} is listed twice; keep one"
            raise ConfigError(message)
        queues[name] = int(count)
    return check_queues(queues)


def check_queues(queues: Mapping[str, int]) -> dict[str, int]:
    """
    Return the queues as a dict.

    Raises:
        ConfigError: there is no queue, or a name or a number cannot be used.
    """
    if not queues:
        message = f"no queue is named; write for example 'default:{DEFAULT_CONCURRENCY}'"
        raise ConfigError(message)
    for name, count in queues.items():
        _check_entry(name)
        if not 1 <= count <= MAX_CONCURRENCY:
            message = f"queue {name!r} cannot run {count} jobs at once; give a number from 1 to {MAX_CONCURRENCY}"
            raise ConfigError(message)
    return dict(queues)


def _check_entry(entry: str) -> None:
    """Raise ConfigError if an entry is neither the name of a queue nor a pattern."""
    if WILDCARD not in entry:
        check_queue_name(entry)
        return
    prefix = prefix_of(entry)
    if prefix and not is_queue_name(prefix):
        message = (
            f"{entry[:130]!r} is not a pattern of queues; write the beginning of their names and one '*' at the end, "
            "such as 'tenant-*', or '*' alone for all queues"
        )
        raise ConfigError(message)


def check_queue_name(name: str) -> str:
    """Return the name of a queue; raise ConfigError if no queue may have it."""
    if not is_queue_name(name):
        message = f"{name[:130]!r} cannot be the name of a queue; a name has {QUEUE_NAME_RULE}"
        raise ConfigError(message)
    return name
