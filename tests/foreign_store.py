"""A store in the tables of another system, which keep no schedules and no progress; its URL is `foreign://`."""

from __future__ import annotations

from typing import Any, NoReturn

from msgspec.structs import replace

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.protocol import Backend, Claim
from deeper_tasks.domain.settlement import Report


class ForeignBackend(MemoryBackend):
    """
    Lacks each role that a store may lack. A call of such a role is a fault of the caller, and fails the test.

    Each job counts as started when it is handed out.
    """

    capabilities = replace(MemoryBackend.capabilities, roles=frozenset())

    async def claim(self, *args: Any, **options: Any) -> Claim:
        claim = await super().claim(*args, **{**options, "slots": options["limit"]})
        waiting = [Report(id=job.id, token=job.token, has_started=True) for job in claim.jobs if not job.has_started]
        if not waiting:
            return claim
        await super().report(waiting, now=options.get("now"))
        return await super().claim(*args, **options)

    async def report(self, *_args: Any, **_options: Any) -> NoReturn:
        raise AssertionError("this store keeps no progress")

    async def put_schedule(self, *_args: Any, **_options: Any) -> NoReturn:
        raise AssertionError("this store keeps no schedules")

    pause_schedule = remove_schedule = schedules = fire = run_schedule = schedule_runs = put_schedule


class SharedForeignBackend(ForeignBackend):
    """Says that other processes see its jobs, so that the command accepts it. Its tests have one process."""

    capabilities = replace(ForeignBackend.capabilities, is_shared=True, is_durable=True)


def make_backend(_url: str, _settings: object) -> Backend:
    return SharedForeignBackend()
