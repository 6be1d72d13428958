"""The queues of a worker: names, and patterns such as `tenant-*`; also as text: `default:20,emails:5,tenant-*:2`."""

from __future__ import annotations

from collections.abc import Mapping

from deeper_tasks.domain.queue_names import QUEUE_NAME_RULE, is_queue_name
from deeper_tasks.domain.queue_patterns import WILDCARD, prefix_of
from deeper_tasks.errors import ConfigError

DEFAULT_CONCURRENCY = 10
MAX_CONCURRENCY = 10_000


def parse_queues(text: str) -> dict[str, int]:
    """
    Return how many jobs of each queue run at once: `default:20,emails:5`; `emails` alone means 10.

    An entry may be a pattern, `tenant-*` or `*`: the queues that it matches share its slots.

    Raises:
        ConfigError: names the part that is wrong and the way out.
    """
    queues: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, count = (piece.strip() for piece in part.partition(":"))
        if not colon:
            count = str(DEFAULT_CONCURRENCY)
        if "=" in part or not (count.isascii() and count.isdigit() and len(count) < len(str(MAX_CONCURRENCY)) + 1):
            message = f"{part!r} is no queue; write its name and how many of its jobs run at once, such as 'emails:5'"
            raise ConfigError(message)
        if name in queues:
            message = f"queue {name!r} stands there twice; keep one"
            raise ConfigError(message)
        queues[name] = int(count)
    return check_queues(queues)


def check_queues(queues: Mapping[str, int]) -> dict[str, int]:
    """Refuse a name or a number that cannot be used, and a list without queues, with ConfigError."""
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
    """Refuse with ConfigError what is neither a queue's name nor a pattern."""
    if WILDCARD not in entry:
        check_queue_name(entry)
        return
    prefix = prefix_of(entry)
    if prefix and not is_queue_name(prefix):
        message = (
            f"{entry[:130]!r} is no pattern of queues: it is the beginning of their names and one '*' at its end, such "
            "as 'tenant-*'; '*' alone serves all queues"
        )
        raise ConfigError(message)


def check_queue_name(name: str) -> str:
    """Refuse with ConfigError what no queue may be named."""
    if not is_queue_name(name):
        message = f"{name[:130]!r} is no queue's name; a name has {QUEUE_NAME_RULE}"
        raise ConfigError(message)
    return name
