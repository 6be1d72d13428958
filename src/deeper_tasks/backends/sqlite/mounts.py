"""Mounts: the kind of file system on which a folder lies, as Linux reports it."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

MOUNTS = Path("/proc/self/mounts")

_NETWORK = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb2",
        "smb3",
        "smbfs",
        "afs",
        "ceph",
        "davfs",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "ocfs2",
    }
)
_REMOTE_FUSE = re.compile(
    r"fuse\.(sshfs|s3fs|s3ql|rclone|gcsfuse|goofys|glusterfs|davfs2?|ceph(-fuse)?|curlftpfs|juicefs)"
)
_DOUBTFUL = re.compile(r"fuse(\..*)?|9p|virtiofs|vboxsf|prl_fs|drvfs|vmhgfs")
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Kind(StrEnum):
    """Whether SQLite's locks hold on a file system: yes, no, or unknown."""

    LOCAL = "local"
    NETWORK = "network"
    DOUBTFUL = "doubtful"


class Mount(Struct, frozen=True, kw_only=True):
    """A mounted file system: its place and its type."""

    point: str
    type: str

    @property
    def kind(self) -> Kind:
        """The kind of its type."""
        if self.type in _NETWORK or _REMOTE_FUSE.fullmatch(self.type):
            return Kind.NETWORK
        return Kind.DOUBTFUL if _DOUBTFUL.fullmatch(self.type) else Kind.LOCAL


def find_mount(folder: Path, *, mounts: Path = MOUNTS) -> Mount | None:
    """Return the file system that a folder lies on; None where the system does not report it."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    real = folder.resolve()
    found: Mount | None = None
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        mount = Mount(point=_ESCAPE.sub(lambda code: chr(int(code[1], 8)), point), type=kind)
        # Of several mounts at one place the last covers the others.
        if real.is_relative_to(mount.point) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found
