"""Care for a journal file: one sweep at a time, and a tail that a dying process tore."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ccl_dispatch.runtime.errors import StorageError

# How Optuna begins every line of a journal.
_OPENING = b'{"op_code":'


@contextlib.contextmanager
def exclusive(journal: Path) -> Iterator[None]:
    """Hold the journal for one sweep; the kernel lets go when the process ends, however it ends.

    Raises:
        StorageError: another process holds it.
    """
    path = journal.with_name(journal.name + ".owner")
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise StorageError(
                f"{journal} is in use by process {file.read().strip() or 'unknown'}. "
                "Wait for it to end, or give this sweep another --storage"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def mend(journal: Path) -> int:
    """Cut off a torn last line, which no reader could get past after the next append; the bytes cut off.

    What is cut is kept beside the journal in `<name>.torn`. Call it only while holding `exclusive`: also a lock that a
    killed writer left behind is removed.

    Raises:
        StorageError: the file is no journal; it is left as it is.
    """
    # Optuna's lock is a link of that name; its holder is gone, as nobody but us may write.
    with contextlib.suppress(FileNotFoundError):
        journal.with_name(journal.name + ".lock").unlink()
    if not journal.exists():
        return 0
    data = journal.read_bytes()
    first, whole, _ = data.partition(b"\n")
    if not first.startswith(_OPENING[: len(first)]) or (whole and not _is_json(first)):
        raise StorageError(
            f"{journal} is not a journal of Optuna: it begins with {data[:24]!r}. "
            "Give another --storage, or move the file away to start anew"
        )
    body, newline, tail = data.rpartition(b"\n")
    good = len(data) - len(tail)
    # The last whole line can be torn as well, when a disk filled up and the next append followed.
    last = body.rpartition(b"\n")[2]
    if newline and last and not _is_json(last):
        good = len(body) - len(last)
    if good == len(data):
        return 0
    with journal.with_name(journal.name + ".torn").open("ab") as torn:
        torn.write(data[good:] + b"\n")
    with journal.open("r+b") as file:
        file.truncate(good)
        os.fsync(file.fileno())
    return len(data) - good


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
