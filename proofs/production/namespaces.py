"""Namespaces: words to put before a command, so that it runs in a pid namespace, or with processes hidden from it."""

from __future__ import annotations

PID_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""A container's: the command is process 1 there, and sees no process outside."""


def in_mounts(script: str) -> tuple[str, ...]:
    """Return the words for a mount namespace in which a shell script of root has been run before."""
    return ("unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{script}; exec "$@"', "sh")


def with_hidden_processes(level: int = 2) -> tuple[str, ...]:
    """Return the words for a `/proc` mounted with `hidepid`, which shows a user no other user's processes."""
    return in_mounts(f"mount -t proc -o hidepid={level} proc /proc")
