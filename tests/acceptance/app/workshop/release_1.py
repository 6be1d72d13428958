"""The tasks of a shop as they are before a deploy."""

from __future__ import annotations

from deeper_tasks import task


@task(name="shop.on_loop", max_attempts=1)
async def on_loop(user_id: int) -> str:
    """Greet."""
    return f"hello {user_id}"


@task(name="shop.in_thread", max_attempts=1)
def in_thread(user_id: int) -> str:
    """Greet."""
    return f"hello {user_id}"


@task(name="shop.in_process", executor="process", max_attempts=1)
def in_process(user_id: int) -> str:
    """Greet."""
    return f"hello {user_id}"


@task(name="shop.transactional", transactional=True, max_attempts=1)
def transactional(user_id: int) -> str:
    """Greet."""
    return f"hello {user_id}"
