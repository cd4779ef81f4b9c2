"""`merge`: studies joined by their samples; tables whose cells lie side by side."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import optuna

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.errors import StorageError, UsageError
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.cli.places import check_apart, check_writable, no_empty_folders
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.emit.text import write_table
from ccl_dispatch.tuner.fleet.merging import Sample, merged_meta, merged_table, samples_of, take_in
from ccl_dispatch.tuner.kinds import TABLE
from ccl_dispatch.tuner.study import Storage, StudyMeta, SweepStudy, open_storage
from ccl_dispatch.tuner.study.databases import without_password
from ccl_dispatch.tuner.study.storage import storage_file
from ccl_dispatch.tuner.study.sweep_study import described_studies

EXAMPLE = """\
ccl-dispatch merge node1.journal node2.journal --storage joined.journal --out table.yaml
         ccl-dispatch merge 'postgresql://tuner@db/a#mi300x' b.journal --storage joined.journal --out table.yaml
         ccl-dispatch merge eager.yaml graph.yaml --out table.yaml"""
_STUDY = "#"
# How often, and after how many seconds, it is looked whether another merge wrote over what this one said of the study.
_MOST_ROUNDS = 20
_ROUND_SECONDS = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a storage as in `--storage`, with #STUDY behind it where it has several; or tables with different cells",
    )
    parser.add_argument("--storage", metavar="URL", help="where the joined study goes; may hold it already")
    parser.add_argument("--study", metavar="NAME", help="its name (default: the first source's)")
    parser.add_argument("--out", metavar="TABLE.yaml", help="the table of all samples; needed when tables are merged")
    parser.add_argument(
        "--without-damaged",
        action="store_true",
        help="leave out trials whose samples are damaged, and say which, instead of refusing their study",
    )


def run(options: argparse.Namespace) -> int:
    """Merge; the sources are only read."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not options.out:
        return _merge(options)
    out = Path(options.out)
    check_apart({"--storage": storage_file(options.storage) if options.storage else None, "--out": out})
    with no_empty_folders(out.parent):
        check_writable(out, "--out", TABLE)
        return _merge(options)


def _merge(options: argparse.Namespace) -> int:
    tables = [source for source in options.sources if source.endswith((".yaml", ".yml"))]
    if tables:
        return _merge_tables(options, tables)
    if not options.storage:
        raise UsageError("--storage is missing: the samples of the studies go into a study of their own")
    return _merge_studies(options)


def _merge_tables(options: argparse.Namespace, names: list[str]) -> int:
    if len(names) < len(options.sources) or options.storage or not options.out:
        raise UsageError(
            "tables hold no samples: they are merged with tables alone, into --out, without a --storage. "
            "Merge the studies that they were made from, where there are any"
        )
    tables: dict[str, Table] = {name: load_table(name) for name in names}
    table = write_table(merged_table(tables), options.out)
    what = f"{counted(len(table.cells), 'cell')} of {counted(len(tables), 'table')}"
    print(f"{options.out}: {what} ({table.provenance}), {table.digest}")
    return 0


def _merge_studies(options: argparse.Namespace) -> int:
    metas: dict[str, StudyMeta] = {}
    samples: list[Sample] = []
    for source in dict.fromkeys(options.sources):
        url, _, name = source.partition(_STUDY)
        if url == options.storage and (not name or name == options.study):
            raise UsageError(f"{without_password(source)} is where the joined study goes: leave it out of the sources")
        with open_storage(url, write=False) as storage:
            study = SweepStudy.load(storage, name or None)
            metas[without_password(source)] = study.meta
            damaged: list[str] = []
            samples += samples_of(study, damaged.append if options.without_damaged else None)
            for what in damaged:
                print(f"{without_password(source)}: left out, as its samples are damaged: {what}", file=sys.stderr)
            if unfinished := study.unfinished():
                print(f"{without_password(source)}: the study has not ended. {unfinished}", file=sys.stderr)
    if not samples:
        raise StorageError(f"{', '.join(metas)}: no measured points, so there is nothing to merge")
    name = options.study or next(iter(metas.values())).name
    # Before a storage is made for what does not belong together.
    meta = merged_meta(name, metas)
    with open_storage(options.storage, write=True) as storage:
        study = _joined_in(storage, name, metas, meta)
        one_config = {study.meta.digest} == {found.digest for found in metas.values()}
        with study.filled_by("merge", metas):
            added = take_in(study, samples, one_config=one_config)
            if not one_config:
                _describe(study, metas)
        results = study.results()
        of_table = study.table_results()
    print(
        f"{without_password(options.storage)}: study {name!r} with {counted(len(results), 'visit')}; of "
        f"{len(samples)} that were merged {added} are new"
    )
    if options.out:
        table = write_table(build_table(study.meta, of_table), options.out)
        print(f"{options.out}: {counted(len(table.cells), 'cell')} ({table.provenance}), {table.digest}")
    return 0


def _joined_in(storage: Storage, name: str, metas: Mapping[str, StudyMeta], meta: StudyMeta) -> SweepStudy:
    """The study that the samples go into, made with `meta` where it is not there.

    Raises:
        UsageError: it is there, and does not belong together with the others.
    """
    if name not in described_studies(storage):
        try:
            return SweepStudy.create_or_continue(storage, meta, optuna.samplers.RandomSampler(seed=0))
        except StorageError:
            if name not in described_studies(storage):
                raise
            # Another merge has just made it, of other sources.
    study = SweepStudy.load(storage, name)
    # Its samples stay, and count once wherever they also are.
    _together(study, metas)
    return study


def _together(study: SweepStudy, metas: Mapping[str, StudyMeta]) -> StudyMeta:
    name = study.meta.name
    return merged_meta(name, {f"study {name!r} in {study.storage.url}": study.meta, **metas})


def _describe(study: SweepStudy, metas: Mapping[str, StudyMeta]) -> None:
    """Let the study say that it is of these sources too. Others may say the same of theirs just now: both must stay."""
    for _ in range(_MOST_ROUNDS):
        now = SweepStudy.load(study.storage, study.meta.name)
        now.describe(_together(now, metas))
        if study.meta.to_json() == now.meta.to_json():
            return
        study.meta = now.meta
        if study.storage.exclusive:
            return
        time.sleep(_ROUND_SECONDS)
