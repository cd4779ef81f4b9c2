"""Writing a result file in one step: a reader sees the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import tempfile

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.kinds import SAMPLES, what_lies_at

_SUFFIX = ".part"


def keep_samples(target: str) -> None:
    """See that a result would not be written over samples: a slip with `--out` must not cost what was measured.

    Raises:
        FileExistsError: what lies there is a storage of samples.
    """
    if (there := what_lies_at(target)) in SAMPLES:
        raise FileExistsError(errno.EEXIST, f"it is {there}, whose samples would be lost")


def write_in_one_step(target: str, text: str) -> None:
    """Replace the file at `target` with `text` in UTF-8, with the permissions that the umask allows.

    Behind a symbolic link it is the file that it leads to. What is no file (a pipe, a terminal, /dev/stdout) can't be
    replaced: it is written to.

    Raises:
        OSError: it can't be written; what was at `target` is untouched, and nothing is left beside it.
    """
    keep_samples(target)
    # Asked of the name as it is given: behind /dev/stdout is a pipe that has no path.
    if os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target):
        with open(target, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        return
    target = os.path.realpath(target)
    folder = os.path.dirname(target)
    remove_parts(target)
    # The same folder, so that replacing is one rename in one file system.
    handle, temporary = _own_part(folder, os.path.basename(target))
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            # mkstemp makes a file for its owner alone; a result is for every reader that the umask allows.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
            os.replace(temporary, target)  # while the lock is held that keeps others from removing it
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    # The rename itself is kept through a power cut only when the folder is synchronised too. It has already
    # happened, so a file system that can't do that is no reason to call the file unwritten.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def try_to_write(target: str) -> None:
    """See whether `write_in_one_step` could make its file beside `target`; nothing is left of it.

    Raises:
        OSError: it could not. The rights of a folder don't tell: root has all of them, on what takes no files too.
    """
    folder, name = os.path.split(os.path.realpath(target))
    handle, temporary = _own_part(folder, name)
    os.unlink(temporary)
    os.close(handle)


def temporary_folder(use: str) -> str:
    """Where what is of no use later goes: $TMPDIR, or what the system has for it.

    Args:
        use: what it is wanted for, for the message.

    Raises:
        UsageError: there is none that can be written.
    """
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        raise UsageError(
            f"there is no temporary folder {use}: neither $TMPDIR nor /tmp can be written, or they are full. Mount one "
            "(in Kubernetes an emptyDir at /tmp), or name one in TMPDIR"
        ) from None


def remove_parts(target: str) -> None:
    """Remove what writers of `target` left behind that were killed; those that still write keep theirs."""
    folder, name = os.path.split(os.path.realpath(target))
    for path in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name)}.*{_SUFFIX}")):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer holds it as long as it lives
                os.unlink(path)
            finally:
                os.close(handle)


def _own_part(folder: str, name: str) -> tuple[int, str]:
    """A new file that nobody removes while this process lives: its descriptor, locked, and its path."""
    while True:
        handle, path = tempfile.mkstemp(prefix=f".{name}.", suffix=_SUFFIX, dir=folder)
        with contextlib.suppress(OSError):  # a file system without locks: then none is taken away either
            fcntl.flock(handle, fcntl.LOCK_EX)
        # Between the two calls somebody may have taken it for left behind.
        if os.fstat(handle).st_nlink:
            return handle, path
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
