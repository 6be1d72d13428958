"""The command `production`: plays situations one after another, and sums up."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence

import click
from msgspec import Struct
from rich.table import Table

from proofs.production.needs import Missing, check
from proofs.production.site import new_site
from proofs.production.situation import Situation
from proofs.production.situations import SITUATIONS
from proofs.verdict import SHOWN_IN_PART, screen

_NAMES = [situation.name for situation in SITUATIONS]


class Result(Struct, frozen=True, kw_only=True):
    """The result of a situation: `missing` says why it was skipped, `fault` what was seen instead."""

    name: str
    seconds: float
    missing: str = ""
    fault: str = ""

    @property
    def verdict(self) -> str:
        """The result in a few words."""
        if self.missing:
            return f"skipped, not shown: {self.missing}"
        return "FAILED" if self.fault else "shown"


@click.command()
@click.argument("chosen", nargs=-1, metavar="[SITUATION]...", type=click.Choice(_NAMES))
@click.option("--list", "is_list", is_flag=True, help="Say what each situation plays, and whether it can be played.")
def production(*, chosen: tuple[str, ...], is_list: bool) -> None:
    """
    Play what production does to workers: other users, containers, forking servers, failing servers.

    Without a name: all situations. One for which this machine lacks something (root, namespaces, a package) is
    skipped and counts as not shown. Exits with 1 if one failed, and else with 77 if one was skipped.
    """
    situations = [situation for situation in SITUATIONS if situation.name in (chosen or _NAMES)]
    if is_list:
        _list(situations)
        return
    results = [_play(situation) for situation in situations]
    _print(results)
    if any(result.fault for result in results):
        raise SystemExit(1)
    raise SystemExit(SHOWN_IN_PART if any(result.missing for result in results) else 0)


def _list(situations: Sequence[Situation]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("situation", "plays", "here"):
        table.add_column(title)
    for situation in situations:
        table.add_row(situation.name, situation.plays, _missing(situation) or "can be played")
    screen().print(table)


def _missing(situation: Situation) -> str:
    try:
        check(situation.needs)
    except Missing as missing:
        return str(missing)
    return ""


def _play(situation: Situation) -> Result:
    click.echo(f"{situation.name}: {situation.plays}")
    started = time.monotonic()
    missing = fault = ""
    try:
        check(situation.needs)
        with new_site() as site:
            situation.play(site)
    except Missing as reason:
        missing = str(reason)
    except Exception:  # noqa: BLE001 - whatever it is, the other situations are played too
        fault = traceback.format_exc()
        click.echo(fault)
    return Result(name=situation.name, seconds=time.monotonic() - started, missing=missing, fault=fault)


def _print(results: Sequence[Result]) -> None:
    table = Table(box=None, title="\nproduction", title_justify="left", padding=(0, 2, 0, 0))
    for title in ("situation", "took", "result"):
        table.add_column(title)
    for result in results:
        table.add_row(result.name, f"{result.seconds:.1f} s", result.verdict)
    screen().print(table)
