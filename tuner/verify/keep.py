"""Keeping what a verification measured, for later ones to be compared with."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from ccl_dispatch.runtime.errors import OutputError
from ccl_dispatch.runtime.platform import match
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.verify.reference import joined, read_reference, reference_path, write_reference
from ccl_dispatch.tuner.verify.run import Verified
from ccl_dispatch.tuner.verify.verdict import RIGHT

# A reference is used many times: with so many visits of each size its own scatter hardly counts.
ENOUGH_VISITS = 16
# Adding takes milliseconds: who holds the reference for so long was stopped, or waits for its file system.
_WAIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.02


def keep_reference(verified: Verified, path: Path | None) -> str:
    """Add the run's visits to the reference at `path` (default: beside the table); what was done, in a sentence.

    Visits are kept only when they are like the table's: everything still right, on the table's platform. Otherwise a
    later run would be compared with what had changed already. Of several processes one adds at a time.

    Raises:
        ReferenceFileError: what is at `path` is not a reference of this table.
        OutputError: it can't be written, or another process holds it and does not let go.
    """
    setup = verified.setup
    target = path or reference_path(setup.path)
    if verified.verification.verdict != RIGHT:
        return f"nothing was added to {target}: a reference is what the table was right with"
    if setup.differs:
        return f"nothing was added to {target}: this is not the table's platform"
    found = verified.as_reference(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    with _alone(target) as alone:
        if target.is_file():
            before = read_reference(target, setup.table)
            if match(before.platform, found.platform).differs:
                return f"nothing was added to {target}: it was made on another platform"
            found = joined(before, found)
        write_reference(found, target)
    visits = sum(map(len, found.visits.values()))
    fewest = min(map(len, found.visits.values()), default=0)
    more = (
        "" if fewest >= ENOUGH_VISITS else f"; more are worth having: --keep again, until {ENOUGH_VISITS} at each size"
    )
    if not alone:
        more += "; its file system has no locks: two runs that --keep at once would lose what one of them adds"
    what = f"{counted(len(found.visits), 'size')}, {counted(visits, 'visit')}"
    return f"{target}: {what}, {counted(found.sets, 'set')} of workers{more}"


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[bool]:
    """Keep other processes from adding to `target` meanwhile; whether its file system can do that.

    Locked is a file beside it, as the reference itself is replaced by another. The kernel lets go of it when its holder
    ends, however it ends; what a killed one leaves is taken over by the next, and removed.

    Raises:
        OutputError: another process holds it and does not let go, or there can be no files.
    """
    there = Path(os.path.realpath(target))
    lock = there.with_name(f".{there.name}.lock")
    file = _taken(lock, target)
    try:
        yield file is not None
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        if file is not None:
            file.close()


def _taken(lock: Path, target: Path) -> FileIO | None:
    """The file at `lock`, locked, or None where there are no locks."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            file = lock.open("a+b", buffering=0)
        except OSError as problem:
            raise OutputError(f"{target}: can't be added to: {lock}: {problem.strerror or problem}") from problem
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.seek(0)
                holder = file.read().decode() or "unknown"
                file.close()
                raise OutputError(
                    f"{target}: process {holder} has held it for {_WAIT_SECONDS:.0f} s (by {lock}), and nothing was "
                    "added. See what becomes of that process, then --keep again"
                ) from None
        except OSError:
            file.close()
            return None
        else:
            # Between the two calls the holder of before may have removed it, and another made one by that name.
            if _is_at(file, lock):
                with contextlib.suppress(OSError):  # for messages only
                    file.truncate(0)
                    file.write(str(os.getpid()).encode())
                return file
        file.close()
        time.sleep(_PAUSE_SECONDS)


def _is_at(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
