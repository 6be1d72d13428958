"""The command `power-cuts`: records traces, cuts the power in each, and reports what was found."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from proofs.power.cuts import Cut, cut_power
from proofs.power.trace import Committed, Trace
from proofs.power.workload import PLANS, record
from proofs.verdict import screen

_CHUNK = 50
_MOST_SHOWN = 5
_CONTROL_SHARE = 100
_LEAST_CONTROLS = 20
_WIDTH = 150


class Row(Struct, kw_only=True):
    """The results of all cuts in one trace. `losing`: the cuts at which something was unsynced, and could be lost."""

    trace: str
    is_control: bool
    events: int
    commits: int
    cuts: int = 0
    losing: int = 0
    faulty: int = 0
    most_commits_lost: int = 0
    faults: list[str] = []

    @property
    def is_as_expected(self) -> bool:
        """Whether nothing is wrong; or, of a disk that ignores syncs, whether that was noticed."""
        return (self.faulty > 0) is self.is_control

    def count(self, cut: Cut) -> None:
        """Take in one cut."""
        self.cuts += 1
        self.losing += not cut.is_harmless
        self.faulty += bool(cut.finding.faults)
        self.most_commits_lost = max(self.most_commits_lost, cut.finding.lost_commits)
        if cut.finding.faults and len(self.faults) < _MOST_SHOWN:
            self.faults.append(f"cut {cut.number}, before event {cut.moment}: {cut.finding.faults[0]}")


class _Share(Struct, frozen=True, kw_only=True):
    """Some cuts of one trace, for one process."""

    trace: int
    first: int
    end: int


@click.command("power-cuts")
@click.option("--cuts", type=click.IntRange(min=10), default=10_000, show_default=True, help="Power cuts, in all.")
@click.option("--seed", type=int, help="Of the work and of the cuts; without it another one each time.")
@click.option("--processes", type=click.IntRange(min=1), default=os.cpu_count() or 1, help="That cut at the same time.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for the files of each cut that shows a fault.",
)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead of the table.")
def power_cuts(cuts: int, seed: int | None, processes: int, keep: Path | None, *, is_json: bool) -> None:
    """
    Cut the power under the SQLite store, as often as you like, and check what is left.

    A random work load runs on real stores, several ways, while all that SQLite does to its files is recorded.
    Then the power is cut at random moments of the record: what was synced stays, and of the later writes each
    is kept, lost or torn. The store is opened on what is left. It must be whole, hold all that was acknowledged,
    be exactly as one of its commits left it, and not as one before the last that was durable (none is with
    synchronous=normal, and a claim never), and be able to do all its jobs. A disk that ignores syncs shows, as a
    control, that losses are found.
    """
    seed = Random().randrange(1_000_000) if seed is None else seed
    progress = Progress(console=Console(stderr=True), disable=is_json)
    # Where there is memory for files, syncs cost nothing; what counts as synced, the record says.
    memory = Path("/dev/shm")
    with progress, tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        traces = _record(Path(folder), seed)
        shares = list(_shares(traces, cuts))
        bar = progress.add_task("cutting the power", total=sum(share.end - share.first for share in shares))
        rows = [_row(trace, is_control=trace is traces[-1]) for trace in traces]
        for number, cut in _cut(traces, shares, Path(folder), seed=seed, processes=processes, keep=keep):
            rows[number].count(cut)
            progress.advance(bar)
    is_proved = all(row.is_as_expected for row in rows)
    if is_json:
        click.echo(msgspec.json.encode({"seed": seed, "is_proved": is_proved, "rows": rows}))
    else:
        _print(rows, seed=seed, is_proved=is_proved)
    raise SystemExit(0 if is_proved else 1)


def _record(folder: Path, seed: int) -> list[Trace]:
    traces = []
    for number, plan in enumerate(PLANS):
        place = folder / str(number)
        place.mkdir()
        traces.append(asyncio.run(record(plan, place, seed=f"{seed} {plan.name}")))
    return [*traces, traces[1].without_syncs()]


def _shares(traces: Sequence[Trace], cuts: int) -> Iterator[_Share]:
    *real, _ = range(len(traces))
    for number in real:
        each = cuts // len(real) + (number < cuts % len(real))
        for first in range(0, each, _CHUNK):
            yield _Share(trace=number, first=first, end=min(first + _CHUNK, each))
    yield _Share(trace=len(real), first=0, end=max(_LEAST_CONTROLS, cuts // _CONTROL_SHARE))


def _cut(
    traces: list[Trace], shares: Iterable[_Share], folder: Path, *, seed: int, processes: int, keep: Path | None
) -> Iterator[tuple[int, Cut]]:
    # Forked, so that the traces need not travel.
    context = multiprocessing.get_context("fork")
    with context.Pool(processes, _Cutter.prepare, (traces, folder, seed, keep)) as pool:
        for number, made in pool.imap_unordered(_Cutter.work, shares):
            for cut in made:
                yield number, cut


class _Cutter:
    """The values that each process of the pool has from its fork."""

    traces: list[Trace]
    folder: Path
    seed: int
    keep: Path | None

    @classmethod
    def prepare(cls, traces: list[Trace], folder: Path, seed: int, keep: Path | None) -> None:
        cls.traces, cls.seed, cls.keep = traces, seed, keep
        cls.folder = folder / f"process {os.getpid()}"
        cls.folder.mkdir()

    @classmethod
    def work(cls, share: _Share) -> tuple[int, list[Cut]]:
        trace = cls.traces[share.trace]
        is_control = share.trace == len(cls.traces) - 1
        numbers = range(share.first, share.end)
        keep = None if is_control else cls.keep
        return share.trace, list(cut_power(trace, cls.folder, seed=str(cls.seed), numbers=numbers, keep=keep))


def _row(trace: Trace, *, is_control: bool) -> Row:
    commits = sum(isinstance(event, Committed) for event in trace.events)
    return Row(trace=trace.name, is_control=is_control, events=len(trace.events), commits=commits)


def _print(rows: list[Row], *, seed: int, is_proved: bool) -> None:
    table = Table(title=f"power cuts on SQLite, seed {seed}", title_justify="left")
    table.add_column("trace")
    for title in ("events", "commits", "cuts", "with writes unsynced", "with faults", "most commits lost"):
        table.add_column(title, justify="right")
    for row in rows:
        figures = (row.events, row.commits, row.cuts, row.losing, row.faulty)
        table.add_row(row.trace, *map(str, figures), "" if row.is_control else str(row.most_commits_lost))
    screen(_WIDTH).print(table)
    for row in rows:
        for fault in row.faults if not row.is_control else ():
            click.echo(f"{row.trace}: {fault}")
    if is_proved:
        click.echo("Nothing acknowledged was lost, nothing was damaged; and where syncs are ignored, that was noticed.")
    else:
        click.echo("Something is wrong: see above.")
