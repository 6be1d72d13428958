"""The command `deeper migrate`."""

from __future__ import annotations

import click

from deeper_tasks.cli.rendering.output import write_json
from deeper_tasks.cli.target import Target, takes_target


@click.command(
    epilog="""\b
Examples:
  deeper migrate --url sqlite:///tasks.db
  deeper migrate --app myapp.tasks:manager --json
  deeper migrate --sql | less
  deeper migrate --sql | psql -v ON_ERROR_STOP=1 "$OWNER_URL"
  deeper migrate --sql --all --url postgresql:///shop > schema.sql"""
)
@click.option("--sql", "as_sql", is_flag=True, help="Print the missing statements instead of running them.")
@click.option(
    "--all", "is_whole", is_flag=True, help="With --sql: print all statements, for an empty store, without a server."
)
@takes_target
def migrate(target: Target, *, as_sql: bool, is_whole: bool) -> None:
    """
    Bring the store's schema up to date. Run it once at each deploy; it is safe to repeat.

    With --sql the statements are printed, as one transaction, and not run: review
    them, or run them by psql or sqlite3 as a user with the right to do so.
    """
    if is_whole and not as_sql:
        raise click.UsageError("--all has no effect without --sql; add --sql, or leave out --all")
    if as_sql:
        _print_script(target, is_whole=is_whole)
        return
    with target.closing() as manager:
        applied = manager.sync.migrate()
        has_store = manager.backend.capabilities.runs_jobs
    if target.as_json:
        write_json({"applied": applied})
    elif applied:
        click.echo("\n".join(f"applied {name}" for name in applied))
    elif has_store:
        click.echo("up to date")
    else:
        click.echo("tasks are disabled here, by enabled = false or a url of noop://: the store has no schema")


def _print_script(target: Target, *, is_whole: bool) -> None:
    with target.closing() as manager:
        script = manager.sync.migration_script(is_whole=is_whole)
    if target.as_json:
        write_json({"sql": script})
    else:
        click.echo(script.rstrip("\n") or "-- up to date: no statement is missing")
