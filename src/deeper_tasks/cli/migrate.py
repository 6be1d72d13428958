"""The command `deeper migrate`."""

from __future__ import annotations

import click

from deeper_tasks.cli.output import write_json
from deeper_tasks.cli.target import Target, takes_target


@click.command(
    epilog="""\b
Examples:
  deeper migrate --url sqlite:///tasks.db
  deeper migrate --app myapp.tasks:manager --json"""
)
@takes_target
def migrate(target: Target) -> None:
    """Bring the store's schema up to date. Run it once at each deploy; again it changes nothing."""
    with target.closing() as manager:
        applied = manager.sync.migrate()
    if target.as_json:
        write_json({"applied": applied})
    elif applied:
        click.echo("\n".join(f"applied {name}" for name in applied))
    else:
        click.echo("up to date")
