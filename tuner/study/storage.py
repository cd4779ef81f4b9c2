"""Opening a storage by its URL."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna

from ccl_dispatch.runtime.errors import CclDispatchError, StorageError, StorageWriteError, UsageError
from ccl_dispatch.tuner.study import journal
from ccl_dispatch.tuner.study.damage import find_damage
from ccl_dispatch.tuner.study.databases import open_shared, sqlite_path, without_password
from ccl_dispatch.tuner.study.lines import CheckedJournal
from ccl_dispatch.tuner.study.operations import JournalOperations, WholeOperations
from ccl_dispatch.tuner.study.patience import DEFAULT_PATIENCE, PatientStorage, words_of

_JOURNAL_SCHEME = "journal://"
_SCHEMES = ("journal", "sqlite", "postgresql", "postgres", "mysql", "mariadb", "grpc")
# Kept nowhere: for trying a search out on replayed figures, a thousand times over.
MEMORY = "memory://"


@dataclass(frozen=True)
class Storage:
    """An open storage.

    Attributes:
        url: what it was opened by, without a password.
        exclusive: no other process may write to it while it is open.
        mended_bytes: what was cut off a journal with a torn tail.
    """

    url: str
    optuna: optuna.storages.BaseStorage
    exclusive: bool = False
    mended_bytes: int = 0


def journal_path(url: str) -> Path | None:
    """The file behind `journal://PATH` or a bare path; None for the URL of a database.

    Raises:
        UsageError: it was meant for a URL, and is none: as a path it would be a folder of that name.
    """
    scheme, colon, rest = url.partition(":")
    if colon and not rest.startswith("//") and scheme.partition("+")[0] in _SCHEMES:
        slashes = "///" if scheme == "sqlite" else "//"
        meant = without_password(f"{scheme}:{slashes}{rest.lstrip('/')}")
        raise UsageError(
            f"a storage's URL has :// behind {scheme}: give {meant}. For a file of such a name give ./ first"
        )
    if url.startswith(_JOURNAL_SCHEME):
        return Path(url.removeprefix(_JOURNAL_SCHEME))
    return None if "://" in url else Path(url)


def storage_file(url: str) -> Path | None:
    """The file that a storage is; None for a database behind a server."""
    return journal_path(url) or sqlite_path(url)


def is_new(url: str) -> bool:
    """Whether nothing lies there yet that could hold a study. Of a database behind a server nothing is known: False."""
    path = storage_file(url)
    return path is not None and not path.exists()


def lies_on_one_machine(url: str) -> bool:
    """Whether no other machine reaches this storage: a file, or memory."""
    return url == MEMORY or url.startswith("sqlite") or journal_path(url) is not None


def check_shared(url: str, nodes: int) -> None:
    """Refuse a storage that lies on one machine where several nodes share the work.

    Raises:
        UsageError: it does.
    """
    if lies_on_one_machine(url):
        raise UsageError(
            f"{nodes} nodes can't share the storage {url}, which is for one machine. Give all of them one that they "
            "reach over the network, such as --storage postgresql://user@host/name, mysql://... or grpc://host:13000"
        )


@contextlib.contextmanager
def open_storage(url: str, *, write: bool, patience: float = DEFAULT_PATIENCE) -> Iterator[Storage]:
    """Open a storage: a path or `journal://PATH` is a local journal file, `grpc://` Optuna's proxy, else a database.

    Args:
        url: `runs/cpu/study.journal`, `sqlite:///study.db`, `postgresql://...`; `memory://` is kept nowhere.
        patience: for how many seconds a shared storage that does not answer any more is asked again.
        write: take a journal for this process alone, mending a torn tail, and create what is not there. Without it the
            storage must exist.

    Raises:
        StorageError: it can't be opened, another sweep holds it, or it takes no writes though it is to be written.
        StorageGoneError: while a journal was open somebody else removed, replaced or cut it.
        StorageWriteError: a database failed while it was open, and not because it was away for a while.
    """
    if url == MEMORY:
        yield Storage(url, optuna.storages.InMemoryStorage(), exclusive=True)
        return
    path = journal_path(url)
    if path is None:
        file = None if write else sqlite_path(url)
        if file is not None and file.parent.is_dir() and not file.exists():
            # To open it would make it.
            raise StorageError(f"there is no study at {file}. Give the --storage that the sweep was given")
        inner, disconnect = open_shared(url, write=write)
        shared = PatientStorage(inner, patience)
        try:
            yield Storage(without_password(url), shared)
        except optuna.exceptions.StorageInternalError as problem:
            # What fails while samples are kept has words of its own; this is about all the rest.
            raise StorageWriteError(
                f"the storage {without_password(url)} failed: {words_of(problem)}. What it holds is untouched; once it "
                "is mended the same command continues"
            ) from problem
        finally:
            shared.close()
            disconnect()
        return
    if not write:
        try:
            _check_readable(path)
            backend = CheckedJournal(path)
        except OSError as problem:
            raise _unreadable(path, problem) from problem
        yield Storage(url, WholeOperations(_journal(path, backend)))
        return
    with contextlib.ExitStack() as stack:
        # Only opening is inside: what fails later, while the storage is used, has its own words.
        try:
            journal.check(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(journal.exclusive(path))
            cut = journal.mend(path)
            own = stack.enter_context(contextlib.closing(journal.OwnJournal(path)))
        except OSError as problem:
            raise StorageError(
                f"the journal {path} can't be opened for writing: {problem.strerror}. "
                "Mend that, or give another --storage"
            ) from problem
        yield Storage(url, JournalOperations(_journal(path, own)), exclusive=True, mended_bytes=cut)


def _check_readable(path: Path) -> None:
    """Look whether a journal is there and can be read, and is not one of the other files that go with it.

    Raises:
        OSError: it can't be read.
        StorageError: there is none.
    """
    try:
        there = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        there = None
    if there is None or not stat.S_ISREG(there.st_mode):
        inside = path / "study.journal"
        if there is not None and inside.is_file():
            raise StorageError(f"{path} is a folder. Give --storage the journal in it, {inside}")
        raise StorageError(f"there is no study at {path}. Give the --storage that the sweep was given")
    journal.check_no_other(path)


def _unreadable(path: Path, problem: OSError) -> StorageError:
    return StorageError(
        f"the journal {path} can't be read: {problem.strerror or problem}. It may be whole: leave it where it is, and "
        "mend that (who may read it, the disk that it is on) or give another --storage"
    )


def _journal(path: Path, backend: CheckedJournal) -> optuna.storages.JournalStorage:
    try:
        return optuna.storages.JournalStorage(backend)
    except CclDispatchError:
        raise
    except OSError as problem:
        raise _unreadable(path, problem) from problem
    except Exception as problem:  # whatever Optuna makes of a damaged line
        if isinstance(problem, AssertionError) and backend.summed:
            raise StorageError(
                f"{path}:{backend.line}: this line of the journal is whole, and Optuna {optuna.__version__} does not "
                "know what it says: a later version wrote it. Use that one: pip install -U optuna"
            ) from problem
        damage = None
        with contextlib.suppress(OSError):
            damage = find_damage(path) or find_damage(path, {backend.line: f"{type(problem).__name__}: {problem}"})
        if damage is not None and damage.whole:
            raise StorageError(damage.words(path)) from problem
        raise StorageError(
            f"{path} is not a journal of Optuna: {type(problem).__name__}: {problem}. "
            "Give another --storage, or move the file away to start anew"
        ) from problem
