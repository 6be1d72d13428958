"""The command: `python -m proofs`."""

from __future__ import annotations

import os
import signal

import click

from proofs.cron.command import cron
from proofs.matrix.command import matrix
from proofs.memory.command import memory
from proofs.outage.command import outage
from proofs.power.command import power_cuts
from proofs.production.command import production
from proofs.series import series
from proofs.soak.command import soak

PROOFS = (cron, power_cuts, soak, outage, production, memory)
"""All proofs, in the order in which `all` runs them. Each runs without options."""
_ENDING = (signal.SIGINT, signal.SIGTERM)


@click.group()
def main() -> None:
    """
    Show what takes minutes to show. Each command exits with 1 when its proof fails.

    Every option can be given in the environment too: PROOFS_CRON_CHANGES=500 is `cron --changes 500`.
    """


for proof in (*PROOFS, series(PROOFS), matrix):
    main.add_command(proof)


def interrupt(*_: object) -> None:
    """End this process as Ctrl-C does, once: a second signal would break off the cleaning up."""
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def let_be_ended() -> None:
    """Give a process that a proof has forked its usual signals: a pool ends its processes by SIGTERM."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    os.register_at_fork(after_in_child=let_be_ended)
    for number in _ENDING:
        signal.signal(number, interrupt)
    main(prog_name="python -m proofs", auto_envvar_prefix="PROOFS")
