"""Writing a result file in one step: a reader sees the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import os
import tempfile


def write_in_one_step(target: str, text: str) -> None:
    """Replace the file at `target` with `text` in UTF-8, with the permissions that the umask allows.

    Raises:
        OSError: it can't be written; what was at `target` is untouched, and nothing is left beside it.
    """
    folder = os.path.dirname(os.path.abspath(target))
    # The same folder, so that replacing is one rename in one file system.
    handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(target)}.", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            # mkstemp makes a file for its owner alone; a result is for every reader that the umask allows.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        os.replace(temporary, target)
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


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
