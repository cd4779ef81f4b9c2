"""The study that a table was made from: the one that was named, or one beside the table, if it is that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ccl_dispatch.runtime.errors import CclDispatchError, UsageError
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.tuner.emit.origin import foreign, tuned_anew, updates_of
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.study import StudyMeta, SweepStudy, open_storage
from ccl_dispatch.tuner.study.sweep_study import studies_in


@dataclass(frozen=True)
class StoredStudy:
    """A study of the table's config.

    Attributes:
        results: the samples that the table was made from; none where they are those of another sweep by that config,
            which says how to measure and nothing about this table. Of cells that were tuned anew there are none.
        where: its storage.
        own: whether the table was made from it.
    """

    meta: StudyMeta
    results: Sequence[PointResult]
    where: str
    own: bool


def stored_study(
    table: Table, path: Path, storage: str | None, study: str | None
) -> tuple[StoredStudy | None, list[str]]:
    """The study that was named, or the one beside the table; and notes on what lies there and is not the table's.

    Raises:
        UsageError: the study that was named is not the one that the table was made from.
        StorageError: it can't be read.
    """
    if storage is not None:
        found, why = _read(table, storage, study)
        if why:
            raise UsageError(
                f"study {found.meta.name!r} in {storage} is not the one that {path} was made from: {why}. Give the "
                "--storage, and the --study where it has several, that the table was made from"
            )
        return found, []
    notes: list[str] = []
    same_config: StoredStudy | None = None
    beside = (path.with_name(f"{path.name.removesuffix(path.suffix)}.journal"), path.parent / "study.journal")
    for url in (str(file) for file in beside if file.is_file()):
        try:
            found, why = _read(table, url, study)
        except CclDispatchError as problem:
            notes.append(f"the study beside the table is left aside: {problem}")
            continue
        if found.own:
            return found, notes
        if found.meta.digest == table.evidence.get("config_digest"):
            same_config = same_config or found
        if found.meta.name in {entry.get("study") for entry in updates_of(table)}:
            notes.append(f"{url} has the samples of cells that were tuned anew, which nothing is compared with")
            continue
        notes.append(
            f"the table was not made from the samples in {url} beside it, and they are left aside: {why}. Give the "
            "--storage that it was made from"
        )
    return same_config, notes


def _read(table: Table, url: str, name: str | None) -> tuple[StoredStudy, str]:
    """The study of that name, or of the name that the table tells, and why it is not the table's; empty where it is."""
    with open_storage(url, write=False) as storage:
        told = str(table.evidence.get("study"))
        study = SweepStudy.load(storage, name or (told if told in studies_in(storage) else None))
        results = study.table_results()
    why = foreign(table, study.meta, results)
    anew = tuned_anew(table)
    kept = [] if why else [result for result in results if result.cell.name not in anew]
    return StoredStudy(study.meta, kept, url, not why), why
