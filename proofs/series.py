"""The series: the proofs one after another, each in a process of its own, and a summary in the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import click
from msgspec import Struct
from rich.table import Table

from proofs.verdict import SHOWN_IN_PART, screen

_ENDING = (signal.SIGINT, signal.SIGTERM)


class Result(Struct, frozen=True, kw_only=True):
    """The result of one proof."""

    name: str
    took: timedelta
    exit_code: int

    @property
    def verdict(self) -> str:
        """The result in a word or two."""
        if self.exit_code == SHOWN_IN_PART:
            return "shown in part: see what it skipped"
        return "proved" if self.exit_code == 0 else f"failed, exit code {self.exit_code}"

    @property
    def is_failed(self) -> bool:
        """Whether it found something wrong; what this machine cannot play is no fault."""
        return self.exit_code not in {0, SHOWN_IN_PART}


def series(proofs: Sequence[click.Command]) -> click.Command:
    """Return the command that runs these proofs, or those of them that are named."""
    names = [str(proof.name) for proof in proofs]

    @click.command("all")
    @click.argument("chosen", nargs=-1, metavar="[PROOF]...", type=click.Choice(names))
    def run_all(chosen: tuple[str, ...]) -> None:
        """
        Run the proofs one after another, and print a summary. Without a name: all of them.

        It goes on after one that fails, and exits with 1 if any did; one that this machine can show in part only
        has not. Options of a proof are given in the
        environment: PROOFS_MEMORY_JOBS=100000 for `memory --jobs 100000`.
        """
        results = [_run(name) for name in names if name in (chosen or names)]
        _print(results)
        raise SystemExit(1 if any(result.is_failed for result in results) else 0)

    return run_all


def _run(name: str) -> Result:
    click.echo(f"\n{name}\n")
    started = time.monotonic()
    proof = None
    try:
        with _uninterrupted():
            proof = subprocess.Popen([sys.executable, "-m", "proofs", name])
        exit_code = proof.wait()
    except KeyboardInterrupt:
        # `subprocess.run` would kill it soon, and the processes that it has started would be left.
        if proof is not None:
            proof.terminate()
            proof.wait()
        raise
    return Result(name=name, took=timedelta(seconds=round(time.monotonic() - started)), exit_code=exit_code)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let an interruption wait for the end of the block: a process that is just being started would be forgotten."""
    came: list[int] = []
    handlers = {each: signal.signal(each, lambda number, _: came.append(number)) for each in _ENDING}
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    for number in came:
        signal.raise_signal(number)


def _print(results: Sequence[Result]) -> None:
    table = Table(box=None, title="\nproofs", title_justify="left", padding=(0, 2, 0, 0))
    for title in ("proof", "took", "result"):
        table.add_column(title)
    for result in results:
        table.add_row(result.name, str(result.took), result.verdict)
    screen().print(table)
