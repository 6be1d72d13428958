"""The command `deeper doctor`."""

from __future__ import annotations

import asyncio
from shlex import quote

import click
from msgspec.structs import replace

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.environment import examine_python, examine_settings
from deeper_tasks.cli.program import ExitCode
from deeper_tasks.cli.rendering.output import console, terminal_width, write_json
from deeper_tasks.cli.rendering.progress import spinner
from deeper_tasks.cli.target import Target, takes_target
from deeper_tasks.domain.finding import Finding, Severity, fault
from deeper_tasks.errors import ConfigError, DeeperTasksError
from deeper_tasks.manager.diagnosis import MANAGER


@click.command(
    epilog="""\b
Examples:
  deeper doctor --url sqlite:///tasks.db
  deeper doctor --app myapp.tasks:manager
  deeper doctor --deep
  deeper doctor --json | jq '.findings[] | select(.severity != "ok")'

\b
Exit codes: 0 nothing wrong, or warnings only; 1 an error was found."""
)
@click.option(
    "--deep",
    is_flag=True,
    help="Read the whole store: every job, and the indexes of a file or the counters of a database.",
)
@click.option("--full", "is_full", is_flag=True, help="Show every finding, even if there are many of a kind.")
@takes_target
def doctor(target: Target, *, deep: bool, is_full: bool) -> ExitCode:
    """
    Report faults of this installation, each with a remedy.

    The command examines Python and the settings, the store and its place, the
    workers and the queues they serve, pauses, jobs that wait or run for too long,
    dead letters, recurring tasks and the clock. It reports jobs whose task no live
    worker knows, or whose arguments do not fit it; with --app, also jobs whose
    task the application lacks. With --deep it reads every job, and names damaged
    ones. It changes nothing.
    """
    findings = [*examine_python(), *examine_settings(target)]
    try:
        with target.closing(with_tasks=True) as manager, spinner(target, "examining") as on_check:
            findings += asyncio.run(_diagnosed(manager, deep=deep, on_check=on_check))
    except (DeeperTasksError, ExceptionGroup) as error:
        findings += _refusals(error)
    findings = [_with_manager(finding, target.app) for finding in findings]
    severity = max((finding.severity for finding in findings), key=list(Severity).index)
    if target.as_json:
        write_json({"severity": severity, "findings": findings})
    else:
        from deeper_tasks.cli.rendering.findings import render_findings

        screen = console()
        screen.print(render_findings(findings, width=terminal_width(screen), is_full=is_full))
    return ExitCode.REFUSED if severity is Severity.ERROR else ExitCode.DONE


async def _diagnosed(manager: BackgroundTaskManager, **options: object) -> list[Finding]:
    """Diagnose in the loop of this thread, not by `manager.sync`, so that Ctrl-C ends the reading of a large file."""
    try:
        return await manager.diagnose(**options)  # type: ignore[arg-type]
    finally:
        await manager.close()


def _with_manager(finding: Finding, app: str | None) -> Finding:
    """Return the finding with the manager of --app in its remedy, so that the command in it can be copied."""
    if app is None or finding.remedy is None:
        return finding
    return replace(finding, remedy=finding.remedy.replace(MANAGER, quote(app)))


def _refusals(error: Exception) -> list[Finding]:
    """Return the findings that say why there is no manager to ask; raise errors that are not this library's again."""
    if isinstance(error, ExceptionGroup):
        return [finding for inner in error.exceptions for finding in _refusals(inner)]
    if not isinstance(error, DeeperTasksError):
        raise error
    remedy = "correct the settings, --url or --app" if isinstance(error, ConfigError) else "follow the message"
    return [fault("settings", str(error), remedy)]
