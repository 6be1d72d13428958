"""The program: the group of all commands, which turns their errors into a line on stderr and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any

import click

from deeper_tasks.cli.completion.shells import know_shells
from deeper_tasks.cli.foreign_names import equivalent_command, equivalent_options
from deeper_tasks.cli.process.streams import as_encodable, drop, is_of_output, prepare_streams
from deeper_tasks.cli.rendering.formats import safe
from deeper_tasks.domain.view import to_json
from deeper_tasks.errors import (
    AccessError,
    AmbiguousIdError,
    BackendUnavailableError,
    ConfigError,
    DeeperTasksError,
    InvalidOptionError,
    JobNotFoundError,
    ScheduleNotFoundError,
    SchemaError,
    TaskNotFoundError,
)


class ExitCode(IntEnum):
    """The exit codes of the command."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    STORE = 4
    STUCK = 75
    INTERRUPTED = 130
    CUT_OFF = 141


EXIT_CODES = """\b
Exit codes:
  0    done
  1    the request was refused, for example because of the job's state, or
       the answer could not be written;
       doctor: it found an error; demo: a job did not end as expected;
       worker: a start hook failed, or the worker could not stop in order
  2    the command line or a setting is wrong, or a short id fits several jobs
  3    there is no such job, task or recurring task
  4    the store cannot be reached, its schema does not fit this version, or
       its user lacks a right
  75   worker: it cannot continue, because jobs ignored their timeouts or
       blocked the event loop for too long, or because a part of the worker
       failed repeatedly; start the worker again
  130  Ctrl-C interrupted the command
  141  the program that read the output has ended, as in 'deeper list | head'"""

_CODES: tuple[tuple[tuple[type[DeeperTasksError], ...], ExitCode], ...] = (
    ((ConfigError, InvalidOptionError, AmbiguousIdError), ExitCode.USAGE),
    ((JobNotFoundError, TaskNotFoundError, ScheduleNotFoundError), ExitCode.NOT_FOUND),
    ((BackendUnavailableError, SchemaError, AccessError), ExitCode.STORE),
    ((DeeperTasksError,), ExitCode.REFUSED),
)


class OutputError(click.ClickException):
    """The error of a command whose answer cannot be written."""


class Program(click.Group):
    """The group of all commands. An error becomes a line `deeper: …` on stderr; with `--json`, a JSON object."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        """Run the command that `args` name, and exit with its exit code."""
        know_shells()
        prepare_streams()
        given = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            code = super().main(given, prog_name or self.name, *rest, **extra)
        except click.ClickException as error:
            code = report_error(_with_equivalent(error, given), as_json="--json" in given)
        except click.Abort as abort:
            # The terminal shows ^C where the cursor was. Click begins a new line after it, but not at a question.
            line = "; ".join(("deeper: interrupted", *_state_of_interrupted(abort.__cause__)))
            click.echo(line if abort.__cause__ else f"\n{line}", err=True)
            # Exit inside this block: objects of the interrupted command would otherwise be closed now, and complain.
            sys.exit(ExitCode.INTERRUPTED)
        except (DeeperTasksError, ExceptionGroup) as error:
            code = report_error(error, as_json="--json" in given)
        except OSError as error:
            if not is_of_output(error):
                raise
            code = report_error(
                OutputError(f"the answer cannot be written: {error.strerror}"), as_json="--json" in given
            )
            drop(sys.stdout)
            drop(sys.stderr)
        sys.exit(code or ExitCode.DONE)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command; for a command of another library, raise an error that names the equivalent."""
        hint = equivalent_command(args[0])
        if hint is not None and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; end without a message if the program that reads the output has ended."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            drop(sys.stdout)
            return ExitCode.CUT_OFF


class CommandGroup(click.Group):
    """A group of commands about one thing, such as queues; without a command's name, it runs its command `list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `list` into a command line that has no command's name."""
        is_asking = not ctx.resilient_parsing and not set(args[:1]) & set(ctx.help_option_names)
        if is_asking and (not args or args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Return the commands in the order in which they were added: the most used come first."""
        return list(self.commands)


def _with_equivalent(error: click.ClickException, given: Sequence[str]) -> click.ClickException:
    """Return the error; for an option of another library, an error that names the equivalent."""
    if not isinstance(error, click.NoSuchOption):
        return error
    hint = equivalent_options(error.ctx, error.option_name, given)
    return error if hint is None else click.UsageError(f"there is no option {error.option_name!r}: {hint}")


def _state_of_interrupted(interrupt: BaseException | None) -> tuple[str, ...]:
    """Return the message with which an interrupted command says how far it came; () if it has none."""
    return interrupt.args if isinstance(interrupt, KeyboardInterrupt) else ()


def report_error(error: Exception, *, as_json: bool) -> ExitCode:
    """
    Write an error on stderr, one line for each fault, and return the exit code.

    An exception that is neither an error of the command line nor of this library is raised again: it is a bug, and
    the user needs its traceback.
    """
    code = ExitCode.DONE
    for fault in _faults(error):
        code = _code(fault)
        # If stderr cannot be written either, the exit code alone reports the error.
        with suppress(OSError):
            click.echo(_line(fault, code, as_json=as_json), err=True)
    return code


def _line(fault: click.ClickException | DeeperTasksError, code: ExitCode, *, as_json: bool) -> str:
    message = _message(fault)
    if not as_json:
        return f"deeper: {safe(message)}"
    answer: dict[str, Any] = {"error": type(fault).__name__, "message": message, "exit_code": int(code)}
    if isinstance(fault, AmbiguousIdError):
        answer["candidates"] = fault.candidates
    return as_encodable(to_json(answer), sys.stderr)


def _faults(error: Exception) -> Iterator[click.ClickException | DeeperTasksError]:
    if isinstance(error, click.ClickException | DeeperTasksError):
        yield error
    elif isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _faults(inner)
    else:
        raise error


def _code(fault: click.ClickException | DeeperTasksError) -> ExitCode:
    if isinstance(fault, click.ClickException):
        return ExitCode(fault.exit_code)
    return next(code for kinds, code in _CODES if isinstance(fault, kinds))


def _message(fault: click.ClickException | DeeperTasksError) -> str:
    text = fault.format_message() if isinstance(fault, click.ClickException) else str(fault)
    line = " ".join(text.split())
    if isinstance(fault, click.UsageError) and fault.ctx is not None:
        return f"{line.rstrip('.')}; see '{fault.ctx.command_path} --help'"
    return line
