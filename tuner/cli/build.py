"""`build`: a table from stored samples."""

from __future__ import annotations

import argparse
from pathlib import Path

import optuna

from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.cli.options import add_storage
from ccl_dispatch.tuner.cli.places import check_writable, no_empty_folders
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.emit.text import write_table
from ccl_dispatch.tuner.kinds import TABLE
from ccl_dispatch.tuner.study import SweepStudy, open_storage

EXAMPLE = "ccl-dispatch build --storage runs/cpu/study.journal --out table.yaml"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_storage(parser)
    parser.add_argument("--out", required=True, metavar="TABLE.yaml", help="the table")


def run(options: argparse.Namespace) -> int:
    """Build; the storage is only read."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out = Path(options.out)
    with no_empty_folders(out.parent):
        check_writable(out, "--out", TABLE)
        with open_storage(options.storage, write=False) as storage:
            study = SweepStudy.load(storage, options.study)
            results = study.table_results()
            table = build_table(study.meta, results)
            unfinished = study.unfinished()
        write_table(table, out)
    print(f"{out}: {counted(len(table.cells), 'cell')} ({table.provenance}), {table.digest}")
    if unfinished:
        print(f"the study has not ended: this is what its {counted(len(results), 'visit')} so far say. {unfinished}")
    return 0
