"""The mounts: on what kind of file system a folder lies, as Linux tells it."""

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
    """Whether SQLite's locks hold there: yes, no, or nobody knows."""

    LOCAL = "local"
    NETWORK = "network"
    DOUBTFUL = "doubtful"


class Mount(Struct, frozen=True, kw_only=True):
    """A mounted file system: where, and of which type."""

    point: str
    type: str

    @property
    def kind(self) -> Kind:
        """What its type says about locks."""
        if self.type in _NETWORK or _REMOTE_FUSE.fullmatch(self.type):
            return Kind.NETWORK
        return Kind.DOUBTFUL if _DOUBTFUL.fullmatch(self.type) else Kind.LOCAL


def find_mount(folder: Path, *, mounts: Path = MOUNTS) -> Mount | None:
    """Return the file system that a folder lies on; None where the system does not tell."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    real = folder.resolve()
    found: Mount | None = None
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        mount = Mount(point=_ESCAPE.sub(lambda code: chr(int(code[1], 8)), point), type=kind)
        # Of several on one place the last one covers the others.
        if real.is_relative_to(mount.point) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found
