"""Opening a storage by its URL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.tuner.study import journal

_JOURNAL_SCHEME = "journal://"
# Kept nowhere: for trying a search out on replayed figures, a thousand times over.
MEMORY = "memory://"


@dataclass(frozen=True)
class Storage:
    """An open storage.

    Attributes:
        url: what it was opened by.
        exclusive: no other process may write to it while it is open.
        mended_bytes: what was cut off a journal with a torn tail.
    """

    url: str
    optuna: optuna.storages.BaseStorage
    exclusive: bool = False
    mended_bytes: int = 0


def journal_path(url: str) -> Path | None:
    """The file behind `journal://PATH` or a bare path; None for the URL of a database."""
    if url.startswith(_JOURNAL_SCHEME):
        return Path(url.removeprefix(_JOURNAL_SCHEME))
    return None if "://" in url else Path(url)


@contextlib.contextmanager
def open_storage(url: str, *, write: bool) -> Iterator[Storage]:
    """Open a storage: a path or `journal://PATH` is a local journal file, anything else goes to Optuna's RDBStorage.

    Args:
        url: `runs/cpu/study.journal`, `sqlite:///study.db`, `postgresql://...`; `memory://` is kept nowhere.
        write: take a journal for this process alone, mending a torn tail, and create what is not there. Without it the
            storage must exist.

    Raises:
        StorageError: it can't be opened, or another sweep holds it.
    """
    if url == MEMORY:
        yield Storage(url, optuna.storages.InMemoryStorage(), exclusive=True)
        return
    path = journal_path(url)
    if path is None:
        yield Storage(url, _database(url))
        return
    if not write:
        if not path.is_file():
            raise StorageError(f"there is no study at {path}. Give the --storage that the sweep was given")
        yield Storage(url, _journal(path))
        return
    with contextlib.ExitStack() as stack:
        # Only opening is inside: what fails later, while the storage is used, has its own words.
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(journal.exclusive(path))
            cut = journal.mend(path)
        except OSError as problem:
            raise StorageError(
                f"the journal {path} can't be opened for writing: {problem.strerror}. "
                "Mend that, or give another --storage"
            ) from problem
        yield Storage(url, _journal(path), exclusive=True, mended_bytes=cut)


def _journal(path: Path) -> optuna.storages.BaseStorage:
    try:
        return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    except (OSError, ValueError, KeyError) as problem:
        raise StorageError(
            f"{path} is not a journal of Optuna: {type(problem).__name__}: {problem}. "
            "Give another --storage, or move the file away to start anew"
        ) from problem


def _database(url: str) -> optuna.storages.BaseStorage:
    try:
        return optuna.storages.RDBStorage(url)
    except Exception as problem:  # every driver has errors of its own
        text = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise StorageError(
            f"the storage {url} can't be opened: {text}. "
            "Expected a path to a journal file or a database URL such as sqlite:///study.db"
        ) from problem
