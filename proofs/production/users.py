"""Users of the operating system, by number: they need no entry in /etc/passwd, as in a container."""

from __future__ import annotations

from msgspec import Struct


class User(Struct, frozen=True, kw_only=True):
    """A user with a group, and further groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words before a command that is to run as this user."""
        groups = f"--groups={','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        return ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", groups)


ROOT_USER = User(uid=0, gid=0)
ADA = User(uid=64001, gid=64001)
BOB = User(uid=64002, gid=64002)
"""A user who has nothing in common with Ada."""
GROUP = 64100
MATE_ADA = User(uid=64001, gid=64001, groups=(GROUP,))
MATE_BOB = User(uid=64002, gid=64002, groups=(GROUP,))
"""Two users who share a group."""
