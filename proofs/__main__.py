"""The command: `python -m proofs`."""

from __future__ import annotations

import click

from proofs.cron.command import cron
from proofs.memory.command import memory
from proofs.outage.command import outage
from proofs.power.command import power_cuts
from proofs.series import series
from proofs.soak.command import soak

PROOFS = (cron, power_cuts, soak, outage, memory)
"""All proofs, in the order in which `all` runs them. Each runs without options."""


@click.group()
def main() -> None:
    """
    Show what takes minutes to show. Each command exits with 1 when its proof fails.

    Every option can be given in the environment too: PROOFS_CRON_CHANGES=500 is `cron --changes 500`.
    """


for proof in (*PROOFS, series(PROOFS)):
    main.add_command(proof)

if __name__ == "__main__":
    main(prog_name="python -m proofs", auto_envvar_prefix="PROOFS")
