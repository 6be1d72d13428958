"""The command: `python -m proofs`."""

from __future__ import annotations

import click

from proofs.memory.command import memory
from proofs.outage.command import outage
from proofs.power.command import power_cuts
from proofs.soak.command import soak


@click.group()
def main() -> None:
    """Show what takes minutes to show. Each command exits with 1 when its proof fails."""


main.add_command(memory)
main.add_command(outage)
main.add_command(power_cuts)
main.add_command(soak)

if __name__ == "__main__":
    main(prog_name="python -m proofs")
