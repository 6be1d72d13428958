"""The command `matrix`: runs the tests of each row, and prints the results."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta

import click
from msgspec import Struct
from rich.table import Table

from proofs.matrix.pythons import python_rows
from proofs.matrix.row import ROOT, MissingError, Row
from proofs.matrix.servers import server_rows
from proofs.verdict import SHOWN_IN_PART, screen

ROWS = {row.name: row for row in (*python_rows(), *server_rows())}
_NO_TESTS_CHOSEN = 5


class Result(Struct, frozen=True, kw_only=True):
    """The result of one row; without an exit code this machine has not got its version."""

    name: str
    took: timedelta
    said: str
    exit_code: int | None


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, metavar="[ROW]... [-- PYTEST-OPTION...]", type=click.UNPROCESSED)
@click.option("--list", "is_list", is_flag=True, help="Print the rows and their tests, and run none.")
@click.option("--tests", multiple=True, metavar="PATH", help="Run these tests in each row, in place of its own.")
@click.option("--workers", type=click.IntRange(min=1), default=4, show_default=True, help="Test processes of a row.")
def matrix(words: tuple[str, ...], *, is_list: bool, tests: tuple[str, ...], workers: int) -> None:
    """
    Run the tests on each version of Python and PostgreSQL that is supported. Without a row: on all (hours).

    A row of Python runs all tests, one of PostgreSQL those that use a server. A version that is missing here is
    skipped, with the way to get it. Words that name no row go to pytest: `matrix postgresql-14 -x -k claim`.
    """
    if is_list:
        for row in ROWS.values():
            click.echo(f"{row.name:14} {' '.join(row.tests)}")
        return
    chosen = [row for name, row in ROWS.items() if name in words] or list(ROWS.values())
    options = ["--numprocesses", str(workers), "--dist", "worksteal", *(word for word in words if word not in ROWS)]
    results = [_run(row, tests=tests or row.tests, options=options) for row in chosen]
    _print(results)
    codes = [result.exit_code for result in results]
    if any(code not in {None, 0} for code in codes):
        raise SystemExit(1)
    raise SystemExit(SHOWN_IN_PART if None in codes else 0)


def _run(row: Row, *, tests: Sequence[str], options: Sequence[str]) -> Result:
    click.echo(f"\n{row.name}\n")
    started = time.monotonic()

    def result(exit_code: int | None, said: str) -> Result:
        took = timedelta(seconds=round(time.monotonic() - started))
        return Result(name=row.name, took=took, said=said, exit_code=exit_code)

    try:
        setting = row.prepare()
    except MissingError as missing:
        return result(None, f"skipped: {missing}")
    done = subprocess.run(
        [setting.python, "-m", "pytest", "--quiet", *options, *tests],
        cwd=ROOT,
        env={**os.environ, **setting.environment},
        check=False,
    )
    said = {0: "passed", _NO_TESTS_CHOSEN: "no test was chosen"}.get(
        done.returncode, f"failed, exit code {done.returncode}"
    )
    return result(done.returncode, said)


def _print(results: Sequence[Result]) -> None:
    table = Table(box=None, title="\nmatrix", title_justify="left", padding=(0, 2, 0, 0))
    for title in ("row", "took", "result"):
        table.add_column(title)
    for result in results:
        table.add_row(result.name, str(result.took), result.said)
    screen().print(table)
