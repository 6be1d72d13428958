"""Access: the owner, the group and the mode of a file."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

_BY_GROUP = 0o060


class Access(Struct, frozen=True, kw_only=True):
    """The owner, the group and the mode of a file. The mode None leaves it as the umask has made it."""

    user: int
    group: int
    mode: int | None

    @classmethod
    def of(cls, path: Path | int) -> Access | None:
        """Return the access of a path or a descriptor; None: it is not there, or cannot be read."""
        try:
            status = os.stat(path)  # noqa: PTH116 - it may be a descriptor
        except OSError:
            return None
        return cls(user=status.st_uid, group=status.st_gid, mode=stat.S_IMODE(status.st_mode) & 0o777)

    def for_folder(self) -> Access:
        """Return the same for a folder: a user who may read may enter."""
        mode = None if self.mode is None else self.mode | (self.mode & 0o444) >> 2
        return Access(user=self.user, group=self.group, mode=mode)

    def lets_in_like(self, other: Access) -> bool:
        """Return whether every user with the other access has this one too, as its owner or by its group."""
        mode = other.mode or 0
        if mode & ~(self.mode or 0) or (mode & _BY_GROUP and self.group != other.group):
            return False
        return self.user == other.user or mode & _BY_GROUP == _BY_GROUP

    def give_to(self, target: Path | int) -> None:
        """
        Give this access to a descriptor, or to the path of one, as far as this user may.

        Root may give a file away; its owner may give it to one of the owner's groups and set its mode. Never call it
        with a path that other users can replace meanwhile by a link to a file of this user's.
        """
        found = Access.of(target)
        if found is None or found == self:
            return
        if (found.user, found.group) != (self.user, self.group):
            for user in (self.user, -1):
                with suppress(OSError):
                    os.chown(target, user, self.group)
                    break
        if self.mode is not None:
            with suppress(OSError):
                os.chmod(target, self.mode)  # noqa: PTH101 - the same
