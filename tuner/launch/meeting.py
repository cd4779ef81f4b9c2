"""Where the processes of one job on one node find each other: a socket in a folder that only this user can open."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import struct
import time
from pathlib import Path

from ccl_dispatch.runtime.errors import MeasuringError, UsageError
from ccl_dispatch.tuner.files import temporary_folder
from ccl_dispatch.tuner.launch.launched import Launched

# A path of a Unix socket has 107 bytes (struct sockaddr_un).
_LONGEST = 107
_RETRY_SECONDS = 0.05
_BACKLOG = 4096
_OLD_SECONDS = 86400.0


def meeting_place(launched: Launched) -> Path:
    """The socket's path, with its folder made.

    Raises:
        UsageError: the folder is not this user's alone, or there is no place for one.
    """
    name = hashlib.sha256(launched.job.encode()).hexdigest()[:16]
    folder = Path(temporary_folder("for the ranks of a node to meet in")) / f"ccl-dispatch-{os.getuid()}"
    if len(os.fsencode(folder / name)) > _LONGEST:
        folder = Path("/tmp") / folder.name  # noqa: S108 - the folder is checked to be this user's
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UsageError(
            f"{folder} must be a folder that this user alone can open (mode 700), for the ranks to meet in; it is "
            f"{stat.filemode(found.st_mode)} of user {found.st_uid}. Remove it, or set TMPDIR to another place"
        )
    return folder / name


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, in place of one that nobody listens at any more.

    Raises:
        UsageError: somebody does.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        try:
            listener.bind(str(path))
        except OSError:
            if (line := _connected(path)) is not None:
                line.close()
                raise UsageError(
                    f"another sweep of the same job is running on this node: it listens at {path}. "
                    "Wait for its end, or give torchrun another --rdzv-id or --master-port"
                ) from None
            path.unlink(missing_ok=True)
            listener.bind(str(path))
        listener.listen(_BACKLOG)
        _clear(path.parent)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(launched: Launched, path: Path, seconds: float) -> socket.socket:
    """Connect to this node's local rank 0, which may come later or have a stale socket from before replaced.

    Raises:
        MeasuringError: it does not come.
    """
    deadline = time.monotonic() + seconds
    while True:
        line = _connected(path)
        if line is not None:
            return line
        if time.monotonic() > deadline:
            raise MeasuringError(
                f"local rank {launched.local_rank} of {launched.local_ranks} waited {seconds:g} s for local rank 0, "
                f"which did not open {path}: look at what that one printed. All ranks of a node must share the folder"
            )
        time.sleep(_RETRY_SECONDS)


def peer_user(line: socket.socket) -> int:
    """The user of the process at the other end."""
    found = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", found)[1])


def _clear(folder: Path) -> None:
    """Remove the sockets that killed sweeps left behind, once they are old enough to be no one's."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > _OLD_SECONDS:
                if (line := _connected(path)) is None:
                    path.unlink()
                else:
                    line.close()


def _connected(path: Path) -> socket.socket | None:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.connect(str(path))
        if peer_user(line) == os.getuid():
            return line
    except OSError:
        pass
    line.close()
    return None
