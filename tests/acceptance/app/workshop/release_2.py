"""The tasks of a shop as they are after a deploy: each has one parameter more, and there is a new task."""

from __future__ import annotations

from deeper_tasks import task


@task(name="shop.on_loop", max_attempts=1)
async def on_loop(user_id: int, words: list[str]) -> str:
    """Greet with words."""
    return f"{' '.join(words)} {user_id}"


@task(name="shop.in_thread", max_attempts=1)
def in_thread(user_id: int, words: list[str]) -> str:
    """Greet with words."""
    return f"{' '.join(words)} {user_id}"


@task(name="shop.in_process", executor="process", max_attempts=1)
def in_process(user_id: int, words: list[str]) -> str:
    """Greet with words."""
    return f"{' '.join(words)} {user_id}"


@task(name="shop.transactional", transactional=True, max_attempts=1)
def transactional(user_id: int, words: list[str]) -> str:
    """Greet with words."""
    return f"{' '.join(words)} {user_id}"


@task(name="shop.added", max_attempts=1)
async def added(user_id: int, words: list[str]) -> str:
    """Greet with words."""
    return f"{' '.join(words)} {user_id}"
