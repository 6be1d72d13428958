"""The cuts: moments of a trace at which the power is cut, and what must be found after each."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

from msgspec import Struct

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.state import State
from proofs.power.disk import Disk
from proofs.power.recovery import Expectation, Finding, examine
from proofs.power.trace import Committed, Promised, TakenBack, Trace


class Cut(Struct, frozen=True, kw_only=True):
    """One power cut: before which event of the trace, whether anything was unsynced, and what was found after it."""

    number: int
    moment: int
    is_harmless: bool
    finding: Finding


def cut_power(trace: Trace, folder: Path, *, seed: str, numbers: range, keep: Path | None = None) -> Iterator[Cut]:
    """
    Cut the power at random moments of a trace, once for each number, and examine what is left.

    The same trace, seed and number give the same cut. The files of a cut that shows a fault are copied to `keep`.
    """
    moments = {number: Random(f"{seed} {number}").randint(1, len(trace.events)) for number in numbers}
    world = _World(trace)
    for number, moment in sorted(moments.items(), key=lambda item: item[1]):
        world.go_on_to(moment)
        random = Random(f"{seed} {number} {moment}")
        left = folder / "left"
        _lay_out(left, world.disk.cut(random), random)
        if keep is not None:
            shutil.copytree(left, keep / f"{trace.name} {number}")
        finding = asyncio.run(examine(left / trace.database, world.expected()))
        if keep is not None and not finding.faults:
            shutil.rmtree(keep / f"{trace.name} {number}")
        yield Cut(number=number, moment=moment, is_harmless=not world.disk.has_pending, finding=finding)


class _World:
    """The disk, the commits and the promises at one moment of a trace."""

    def __init__(self, trace: Trace) -> None:
        self.disk = Disk()
        self._trace = trace
        self._moment = 0
        # Before its first commit the store is empty; the process that opens it makes the schema, as that commit does.
        self._commits = [event.digest for event in trace.events if isinstance(event, Committed)]
        self._committed = 0
        self._durable = 0
        self._promised: dict[JobId, State | None] = {}

    def go_on_to(self, moment: int) -> None:
        """Let everything happen before the event of this number."""
        for event in self._trace.events[self._moment : moment]:
            match event:
                case Committed():
                    self._committed += 1
                    if event.is_durable:
                        self._durable = self._committed
                case Promised():
                    self._promised |= event.jobs
                case TakenBack():
                    for job in event.jobs:
                        self._promised.pop(job, None)
                case _:
                    self.disk.apply(event)
        self._moment = moment

    def expected(self) -> Expectation:
        """Return what must be found: the last durable commit, one after it, or the one under way."""
        finished = max(1, self._committed)
        return Expectation(
            commits=tuple(self._commits[max(0, self._durable - 1) : finished]),
            under_way=next(iter(self._commits[finished : finished + 1]), None),
            promised=dict(self._promised) if self._trace.is_durable else {},
        )


def _lay_out(folder: Path, files: dict[str, bytes], random: Random) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, contents in files.items():
        (folder / name).write_bytes(contents)
        # The memory that SQLite shares between processes is never synced: any rest of it may be found.
        if name.endswith("-wal") and random.random() < 0.5:
            (folder / f"{name.removesuffix('-wal')}-shm").write_bytes(random.randbytes(32768))
