"""The command `cron`: compares due times around the changes of the zones' clocks, and reports what differs."""

from __future__ import annotations

import multiprocessing
import os
from functools import partial
from random import Random

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from proofs.cron.changes import Change, all_changes
from proofs.cron.comparison import Finding, compare

_FIRST, _LAST = 1970, 2040
_MOST_SHOWN = 20


@click.command()
@click.option("--changes", type=click.IntRange(min=2), default=8_000, show_default=True, help="To look at, at most.")
@click.option("--first", type=int, default=_FIRST, show_default=True, help="The first year.")
@click.option("--last", type=int, default=_LAST, show_default=True, help="The last year.")
@click.option("--seed", type=int, help="Of the choice and of the expressions; without it another one each time.")
@click.option("--processes", type=click.IntRange(min=1), default=os.cpu_count() or 1, help="That work side by side.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead of the report.")
def cron(changes: int, *, first: int, last: int, seed: int | None, processes: int, is_json: bool) -> None:
    """
    Compare due times with a walk through the time, around the changes of the clocks of all zones.

    Half of the changes, if there are so many, are of an uncommon kind: at midnight, or not by an hour. For each,
    random expressions of five and of six fields are compared, second by second close to it and minute by minute
    in the days around it, and asked from random moments.
    """
    seed = Random().randrange(1_000_000) if seed is None else seed
    chosen = _choose(list(all_changes(first, last)), changes, Random(seed))
    total = Finding()
    with (
        multiprocessing.Pool(processes) as pool,
        Progress(console=Console(stderr=True), disable=is_json) as progress,
    ):
        bar = progress.add_task("comparing", total=len(chosen))
        for finding in pool.imap_unordered(partial(compare, seed=str(seed)), chosen, chunksize=4):
            total.add(finding)
            progress.advance(bar)
    if is_json:
        click.echo(msgspec.json.encode({"seed": seed, "finding": total}))
    else:
        _print(total, seed=seed)
    raise SystemExit(1 if total.faults or not total.due_times else 0)


def _choose(known: list[Change], count: int, random: Random) -> list[Change]:
    random.shuffle(known)
    strange = [change for change in known if change.is_strange][: count // 2]
    return [*strange, *(change for change in known if not change.is_strange)][:count]


def _print(total: Finding, *, seed: int) -> None:
    for fault in total.faults[:_MOST_SHOWN]:
        click.echo(fault)
    if len(total.faults) > _MOST_SHOWN:
        click.echo(f"… and {len(total.faults) - _MOST_SHOWN} more faults")
    click.echo(
        f"seed {seed}: {total.changes:,} changes of clocks, {total.expressions:,} expressions, "
        f"{total.due_times:,} due times: {len(total.faults):,} differ."
    )
