"""The demonstration: a few jobs of every kind, really run, and shown while they are."""

from deeper_tasks.cli.commands.demo.command import demo

__all__ = ["demo"]
