"""A clocked store: any store, by the time of a test's clock."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from deeper_tasks.backends.protocol import Backend, Transacting
from deeper_tasks.testing.proxy import Proxy


class ClockedBackend(Proxy):
    """Passes `now()` to every method of a store that takes the time and was not given one."""

    def __init__(self, backend: Backend, *, now: Callable[[], datetime]) -> None:
        super().__init__(backend)
        self._now = now

    async def _pass_on(self, method: str, /, *args: Any, **options: Any) -> Any:
        if _takes_time(method) and options.get("now") is None:
            options["now"] = self._now()
        return await super()._pass_on(method, *args, **options)


@lru_cache
def _takes_time(method: str) -> bool:
    found = getattr(Backend, method, None) or getattr(Transacting, method, None)
    return found is not None and "now" in inspect.signature(found).parameters
