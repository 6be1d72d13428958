"""Through Django: the caller gives `django.db.connection`, or one of `django.db.connections`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.joining.refusals import refused


class ThroughDjango:
    """
    A connection of Django to PostgreSQL, in this thread.

    The savepoint is plain SQL: with a savepoint of Django's, a refused insert would make Django roll back the caller's
    `atomic` block too.
    """

    is_async: ClassVar[bool] = False
    placeholder: ClassVar[str] = "%({name})s"
    how_to_begin: ClassVar[str] = "open 'with transaction.atomic():' around it"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        from django.core.exceptions import SynchronousOnlyOperation
        from django.db import Error

        return (Error, SynchronousOnlyOperation)

    async def enter(self) -> None:
        if self._connection.vendor != "postgresql":
            raise refused(f"be one to {self._connection.vendor}", "the jobs are in PostgreSQL: give connections[alias]")

    def has_begun(self) -> bool:
        return True

    def is_lost(self, _: Exception) -> bool:
        driver = self._connection.connection
        return driver is not None and bool(driver.closed)

    async def run(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)

    async def rows(self, statement: str, values: Mapping[str, str | None]) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cast("list[Row]", cursor.fetchall())

    async def end(self) -> None:
        """Do nothing: Django begins no transaction by itself."""
