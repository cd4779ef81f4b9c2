"""`export`: a study's samples and exclusions as a measurement CSV, for `evaluate`, a replay, or other tools."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna

from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.cli.options import add_storage
from ccl_dispatch.tuner.cli.places import check_writable, no_empty_folders
from ccl_dispatch.tuner.kinds import MEASUREMENTS
from ccl_dispatch.tuner.measurements.csv_file import write_measurements
from ccl_dispatch.tuner.measurements.rows import AnyRow, ExcludedRow, Row, parted
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.study import SweepStudy, open_storage

EXAMPLE = "ccl-dispatch export --storage runs/cpu/study.journal --out samples.csv"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_storage(parser)
    parser.add_argument("--out", required=True, metavar="FILE.csv", help="the measurements")


def run(options: argparse.Namespace) -> int:
    """Write one row per repetition and backend and one per exclusion; column `provenance` says what the figures are."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out = Path(options.out)
    with no_empty_folders(out.parent):
        check_writable(out, "--out", MEASUREMENTS)
        with open_storage(options.storage, write=False) as storage:
            study = SweepStudy.load(storage, options.study)
            rows = tuple(rows_of(study.results(), study.meta.platform.device, study.meta.provenance))
        write_measurements(rows, out)
    latencies, exclusions = map(len, parted(rows))
    more = f", {counted(exclusions, 'exclusion')}" if exclusions else ""
    print(f"{options.out}: {latencies} latencies{more} ({study.meta.provenance})")
    return 0


def rows_of(results: Sequence[PointResult], platform: str, provenance: str) -> Iterator[AnyRow]:
    """Every sample as a row, repetition by repetition; what several visits of a size exclude alike is one row."""
    extra = {"platform": platform, "provenance": provenance}
    said = set()
    for result in results:
        for name, latencies in result.latencies_us.items():
            for latency in latencies:
                yield Row(result.cell, name, result.size, latency, result.shape, extra)
        for item in result.exclusions:
            if (key := (result.cell, result.size, item)) not in said:
                said.add(key)
                yield ExcludedRow(result.cell, item.backend, result.size, item.reason, item.detail, result.shape, extra)
