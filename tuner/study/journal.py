"""Care for a journal file: one sweep at a time, and a tail that a dying process tore."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from ccl_dispatch.runtime.errors import StorageError, StorageGoneError
from ccl_dispatch.runtime.load import JOURNAL_OPENING
from ccl_dispatch.tuner.kinds import MEASUREMENTS, TABLE, kind_of
from ccl_dispatch.tuner.study.lines import CheckedJournal, to_line

_LONGEST_FIRST_LINE = 1 << 20
# Optuna's numbers for lines that only lead up to the end of a trial, or to that of an import or a merge.
_LEADING = frozenset({4, 5, 8})
# What the head of every table has: the name of its format, without the version.
_HEAD = 4096


@contextlib.contextmanager
def exclusive(journal: Path) -> Iterator[None]:
    """Hold the journal for one sweep, by whatever names it is known; made where it is not there.

    Two locks: of the file beside it, which stays what it is when the journal is moved away, and of the journal itself,
    which is the same behind a hard link. The kernel lets go of both when the process ends, however it ends. They are
    flock's: those of POSIX would go as soon as anything in this process closes the file.

    Raises:
        StorageError: another process holds it, or the filesystem has no locks.
    """
    # Behind a symbolic link, in its folder or before it: beside the file that is meant.
    real = Path(os.path.realpath(journal))
    owner = real.with_name(real.name + ".owner")
    made = not owner.exists()
    with owner.open("a+") as file:
        try:
            _lock(file.fileno(), owner)
        except BlockingIOError:
            file.seek(0)
            raise _in_use(journal, f"process {file.read().strip() or 'unknown'}") from None
        except StorageError:
            if made:
                owner.unlink(missing_ok=True)
            raise
        with real.open("ab") as itself:
            try:
                _lock(itself.fileno(), real)
            except BlockingIOError:
                raise _in_use(journal, "another process under another name (a hard link to the same file)") from None
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield


def _lock(descriptor: int, path: Path) -> None:
    """Take the lock of an open file.

    Raises:
        BlockingIOError: another one has it.
        StorageError: there are no locks here.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as problem:
        name = errno.errorcode.get(problem.errno or 0, str(problem.errno))
        raise StorageError(
            f"the filesystem of {path.parent} gives no locks (flock: {problem.strerror}, {name}), and without one "
            "nothing keeps two sweeps apart. Give a --storage on a local disk, or a database, such "
            "as postgresql://user@host/name; Lustre has locks where it is mounted with -o flock"
        ) from problem


def _in_use(journal: Path, who: str) -> StorageError:
    return StorageError(f"{journal} is in use by {who}. Wait for it to end, or give this sweep another --storage")


def check_no_other(journal: Path) -> None:
    """Say it of a table and of a CSV: whoever has one at hand easily gives it where its samples are asked for.

    Raises:
        StorageError: it is one.
    """
    with journal.open("rb") as file:
        head = file.read(_HEAD)
    kind = kind_of(head)
    if kind == MEASUREMENTS:
        raise StorageError(
            f"{journal} is a CSV of measurements, expected the journal of a study. `ccl-dispatch import` brings its "
            "figures into one"
        )
    if kind == TABLE:
        beside = journal.with_name("study.journal")
        where = f", such as {beside} beside it" if beside.is_file() else ""
        raise StorageError(
            f"{journal} is a table, expected the journal of a study, which has the samples behind one. Give --storage "
            f"the journal that the table was made from{where}; `ccl-dispatch show` and `explain` read tables"
        )


def check(journal: Path) -> None:
    """Refuse what is no journal, before a file is put beside it for `exclusive`.

    Raises:
        StorageError: it is no file, or its first line is not one of a journal's.
    """
    if journal.is_file():
        check_no_other(journal)
        with journal.open("rb") as file:
            first = file.readline(_LONGEST_FIRST_LINE)
        whole = first.endswith(b"\n")
        if not first.startswith(JOURNAL_OPENING[: len(first)]) or (whole and not _is_json(first)):
            raise StorageError(
                f"{journal} is not a journal of Optuna: it begins with {first[:24]!r}. "
                "Give another --storage, or move the file away to start anew"
            )
    elif journal.exists():
        what = "a folder" if journal.is_dir() else "no plain file"
        raise StorageError(f"{journal} is {what}, and no journal. Give --storage the name of a file")


def mend(journal: Path) -> int:
    """Cut off a torn last line, which no reader could get past after the next append; the bytes cut off.

    What is cut is kept beside the journal in `<name>.torn`. Call it only while holding `exclusive`: also a lock that a
    killed writer left behind is removed.

    Raises:
        StorageError: the file is no journal; it is left as it is.
    """
    # Optuna's own lock, if others wrote the file: a link of that name. Its holder is gone, as nobody but us may write.
    for path in (journal, Path(os.path.realpath(journal))):
        path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if not journal.exists():
        return 0
    check(journal)
    data = journal.read_bytes()
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


class OwnJournal(CheckedJournal):
    """The journal of one sweep, which nobody else may change: each operation looks whether it is still what it was.

    Whatever happens to this process, all that was written stays. What is to outlive the machine as well is waited for:
    the end of a trial, with all that was written before it, what a study says of itself, and the last line before
    `close`. That is once for each visit, which has ten lines, and a disk may take longer over one than the visit.

    The file is held open until `close`: also when its name is gone, what was in it can still be read. Nothing is locked
    here: `exclusive` keeps other processes out, and JournalStorage lets one thread at a time write. Optuna's lock is a
    file: an interrupt just after it was taken leaves it, and the sweep waits for itself when it writes that it ends.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = path.open("a+b", buffering=0)
        self._length = os.fstat(self._file.fileno()).st_size
        self._gone = ""

    def close(self) -> None:
        """Hold the file no longer; all that was written is on the disk then."""
        with self._file:
            os.fsync(self._file.fileno())

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """See JournalFileBackend.

        Raises:
            StorageGoneError: the file was removed, replaced, cut or written over.
        """
        self._look()
        try:
            yield from super().read_logs(log_number_from)
        except FileNotFoundError:  # between the look and now
            self._look()
            raise
        except ValueError as problem:
            self._look()
            if log_number_from == 0:  # it is being opened: whoever opens it says what is wrong with it
                raise
            raise StorageGoneError(
                f"the journal {self._path} was written over by somebody else while the sweep used it ({problem}). Take "
                "it back from a copy, or move it away to start anew"
            ) from problem

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """See JournalFileBackend.

        Raises:
            StorageGoneError: the file was removed, replaced or cut.
        """
        self._look()
        lines = memoryview("".join(map(to_line, logs)).encode())
        # Through our handle, not by name: if the name was taken away since the look, the lines still go to the file
        # that is put aside, not to a new one.
        while lines:
            lines = lines[self._file.write(lines) :]
        if any(log["op_code"] not in _LEADING for log in logs):
            os.fsync(self._file.fileno())
        # It may have been cut between the look and the write: then the next look sees that.
        self._length = max(self._length, os.fstat(self._file.fileno()).st_size)

    def _look(self) -> None:
        if not self._gone:
            self._gone = self._what_happened()
        if self._gone:
            raise StorageGoneError(self._gone)

    def _what_happened(self) -> str:
        """What somebody else did to the file, and what is left of it; empty when it is as it was."""
        mine = os.fstat(self._file.fileno())
        try:
            there = os.stat(self._path)
        except OSError:
            return f"the journal {self._path} was removed while the sweep used it. {self._put_aside()}"
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            return f"the journal {self._path} was replaced by another file while the sweep used it. {self._put_aside()}"
        if there.st_size < self._length:
            return (
                f"the journal {self._path} was cut from {self._length} to {there.st_size} bytes by somebody else while "
                "the sweep used it; the samples in what was cut off are gone. Take it back from a copy, if there is "
                "one; then, or with what is left, the same command continues"
            )
        return ""

    def _put_aside(self) -> str:
        """Copy the file, of which nothing but our handle is left, to a place beside it; where that is."""
        copy = self._path.with_name(f"{self._path.name}.rescued-{os.getpid()}")
        try:
            with copy.open("xb") as target:
                self._file.seek(0)
                shutil.copyfileobj(self._file, target)
        except OSError as problem:
            return f"Its samples are lost, as they could not be kept in {copy} either: {problem.strerror}"
        return (
            f"What was in it, all points before this one, is kept in {copy}: move that to {self._path}, and the same "
            "command continues"
        )


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
