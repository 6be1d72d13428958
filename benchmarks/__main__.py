"""The command: `python -m benchmarks`."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import click
import msgspec
from rich.console import Console

from benchmarks import engine, raw_loop
from benchmarks.figures import Competitor, Sample, make_rows
from benchmarks.plan import Plan, make_plan
from benchmarks.report import to_document, to_table

_WIDTH = 170

Measure = Callable[[Plan, int], Sample]


@click.command()
@click.option("--jobs", type=click.IntRange(min=1), help="Jobs in each drain (20,000; with --quick 2,000).")
@click.option(
    "--store-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder whose file system is measured (the system's folder for temporary files).",
)
@click.option("--quick", "is_quick", is_flag=True, help="One small round: shows that all works, measures little.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead of the table.")
def main(jobs: int | None, store_dir: Path | None, *, is_quick: bool, is_json: bool) -> None:
    """
    Measure this engine beside the raw SQLite loop and beside Huey, in one run on one file system.

    The rounds are interleaved (raw, ours, Huey, raw, ours, Huey …), so that what else the machine does
    slows all alike. Targets are information: a missed one is no error.
    """
    measures = _measures()
    samples: defaultdict[Competitor, list[Sample]] = defaultdict(list)
    progress = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="deeper-benchmark-", dir=store_dir) as folder:
        plan = make_plan(Path(folder).resolve(), jobs=jobs, is_quick=is_quick)
        for number in range(1, plan.rounds + 1):
            for who, measure in measures.items():
                progress.print(f"round {number} of {plan.rounds}: {who}", highlight=False)
                samples[who].append(measure(plan, number))
    rows = make_rows(samples)
    if is_json:
        click.echo(msgspec.json.format(msgspec.json.encode(to_document(rows, plan))).decode())
    else:
        console = Console()
        wide = console if console.is_terminal else Console(width=_WIDTH)
        wide.print(to_table(rows, list(measures), plan))


def _measures() -> dict[Competitor, Measure]:
    measures: dict[Competitor, Measure] = {Competitor.RAW: raw_loop.measure, Competitor.OURS: engine.measure}
    if find_spec("huey") is not None:
        from benchmarks import huey_peer

        measures[Competitor.HUEY] = lambda plan, number: huey_peer.measure(plan, number, is_fsync_off=False)
        measures[Competitor.HUEY_UNSAFE] = lambda plan, number: huey_peer.measure(plan, number, is_fsync_off=True)
    return measures


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
