"""Foreign names: commands and options of other task libraries, with their equivalents in `deeper`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from deeper_tasks.cli.application import written_place

_APPLICATION = ("-A", "--app", "--application")
_QUEUES = "the queues and their slots are --queues default:10,emails:5"
_SLOTS = "each queue has its own number of slots: --queues default:10"
_LEVEL = "the level of the log is --log-level info"
_BEAT = "every worker fires recurring tasks, so no process of its own is needed: see 'deeper schedules'"
_STATE = "see 'deeper stats', 'deeper list' and 'deeper doctor'"
_WORKER = "write 'deeper worker myapp.tasks:manager'"
_OF_WORKER = {
    **dict.fromkeys(("-Q", "--queue", "-q"), _QUEUES),
    **dict.fromkeys(("-c", "--concurrency", "-t", "--threads", "--workers", "-w", "--autoscale"), _SLOTS),
    **dict.fromkeys(("-l", "--loglevel", "--logging-level", "-v", "--verbose"), _LEVEL),
    **dict.fromkeys(("-f", "--logfile", "--log-file"), "the log goes to stderr: 2> FILE"),
    **dict.fromkeys(("-B", "--beat", "--with-scheduler", "--scheduler"), _BEAT),
    **dict.fromkeys(("-p", "--process", "--num-workers"), "worker processes are --processes 4"),
    **dict.fromkeys(("-P", "--pool", "-k", "--worker-type"), "a task says where it runs: @manager.task(executor=…)"),
    **dict.fromkeys(("--time-limit", "--soft-time-limit"), "a task says it: @manager.task(timeout_seconds=60)"),
    **dict.fromkeys(("--watch", "--autoreload"), "write --reload"),
    **dict.fromkeys(("-u", "--broker", "-b"), "the store is --url sqlite:///tasks.db"),
}
_COMMANDS = {
    **dict.fromkeys(("beat", "scheduler", "rqscheduler", "cron"), _BEAT),
    **dict.fromkeys(("inspect", "events", "flower", "info", "report", "top", "monitor", "graph"), _STATE),
    **dict.fromkeys(("purge", "empty", "flush", "clear"), "write 'deeper delete --queue default'"),
    **dict.fromkeys(("call", "send", "run", "apply", "defer"), "write 'deeper enqueue myapp.tasks.send_welcome 42'"),
    **dict.fromkeys(("result", "show", "job"), "write 'deeper status ID'"),
    **dict.fromkeys(("revoke", "abort", "kill"), "write 'deeper cancel ID'"),
    **dict.fromkeys(("requeue", "replay"), "write 'deeper retry ID'"),
    **dict.fromkeys(("pause", "suspend", "resume"), "write 'deeper queues pause NAME', or 'deeper queues resume NAME'"),
    **dict.fromkeys(("multi", "start", "work", "serve", "consumer", "workers"), _WORKER),
    **dict.fromkeys(("schema", "upgrade", "init"), "write 'deeper migrate'"),
}


def equivalent_command(name: str) -> str | None:
    """Return how `deeper` does what another library's command does; None if the name is not known."""
    return _COMMANDS.get(name)


def equivalent_options(context: click.Context | None, unknown: str, words: Sequence[str]) -> str | None:
    """
    Return the equivalents of all options on the command line that belong to other libraries, in one answer.

    `unknown` is the option that click refused. Returns None if it is not known here either.
    """
    if context is None or (context.parent is not None and context.command.name != "worker"):
        return None
    if unknown not in {*_OF_WORKER, *_APPLICATION}:
        return None
    place = application(words)
    found = [] if place is None else [f"write 'deeper worker {written_place(place)}'"]
    for word in words:
        option = _option(word)
        known = context.parent is not None and any(option in each.opts for each in context.command.params)
        hint = None if known else _OF_WORKER.get(option)
        if hint is not None and hint not in found:
            found.append(hint)
    return "; ".join(found or [_WORKER])


def application(words: Sequence[str]) -> str | None:
    """Return the value of an option such as -A, which names the application in other libraries; None without it."""
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in _APPLICATION:
            return value if equals else next(iter(words[index + 1 :]), None)
    return None


def _option(word: str) -> str:
    """Return the option in a word: `-c` in `-c4`, `--concurrency` in `--concurrency=4`."""
    return word.partition("=")[0] if word.startswith("--") else word[:2]
