"""The command `deeper completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from deeper_tasks.cli.completion.shells import VARIABLE, know_shells


@click.command(
    epilog="""\b
Examples:
  deeper completion bash > ~/.local/share/bash-completion/completions/deeper
  deeper completion zsh > ~/.zfunc/_deeper      (with ~/.zfunc in fpath)
  deeper completion fish > ~/.config/fish/completions/deeper.fish
  eval "$(deeper completion bash)"              (for this shell only)"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """
    Print the script with which a shell completes commands, options, states and names.

    The names of queues, tasks and recurring tasks come from the store and the
    application that the unfinished command line names, or from those of the
    settings. If they do not answer within a second, no names are offered.
    Managers (MODULE:MANAGER) are searched for in the files of the working folder.
    """
    know_shells()
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "deeper", VARIABLE).source())
