"""The demonstration: runs a few jobs of every kind, and shows their states."""

from deeper_tasks.cli.commands.demo.command import demo

__all__ = ["demo"]
