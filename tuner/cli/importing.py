"""`import`: measurements of others into a study, from which `build` makes a table."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import optuna

from ccl_dispatch.runtime.errors import MeasurementFileError, StorageError, UsageError
from ccl_dispatch.runtime.table import Platform, Policy
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.cli.options import add_where, where
from ccl_dispatch.tuner.importing import import_measurements, left_out
from ccl_dispatch.tuner.measurements import parse_measurements
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.study import StudyMeta, SweepStudy, open_storage

EXAMPLE = "ccl-dispatch import measured.csv --baseline rccl --where platform=MI300X --storage imported.journal"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--storage", required=True, metavar="URL", help="a journal file, or any Optuna storage URL")
    parser.add_argument("--baseline", required=True, metavar="NAME", help="the backend that is used when in doubt")
    parser.add_argument("--candidate", action="append", default=[], metavar="NAME", help="default: every other backend")
    parser.add_argument("--study", default="imported", metavar="NAME")
    parser.add_argument("--min-gain", type=float, default=0.03)
    parser.add_argument("--confidence", type=float, default=0.95)
    add_where(parser)


def run(options: argparse.Namespace) -> int:
    """Import; says how many points were taken, and what was left out."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not 0 <= options.min_gain < 1 or not 0.5 < options.confidence < 1:
        raise UsageError(
            f"--min-gain {options.min_gain} --confidence {options.confidence}: expected 0 <= min-gain < 1 and "
            "0.5 < confidence < 1"
        )
    points: list[PointResult] = []
    source: dict[str, str] = {}
    for name in options.files:
        try:
            data = Path(name).read_bytes()
        except OSError as problem:
            raise MeasurementFileError(f"can't be read: {problem.strerror or problem}", source=name) from None
        measurements = parse_measurements(data, name, where(options))
        source[Path(name).name] = hashlib.sha256(data).hexdigest()
        found = import_measurements(measurements, options.baseline, options.candidate)
        points += found
        for line in left_out(measurements, found):
            print(line, file=sys.stderr)
    meta = _meta(options, points, source)
    grid: dict[str, set[int]] = {}
    for point in points:
        grid.setdefault(point.cell.name, set()).add(point.size)
    space = SearchSpace({name: tuple(sorted(sizes)) for name, sizes in grid.items()})
    with open_storage(options.storage, write=True) as storage:
        if options.study in optuna.get_all_study_names(storage.optuna):
            raise StorageError(
                f"{options.storage} has a study {options.study!r} already. Import all files that belong together in "
                "one call, and give another --study or --storage"
            )
        study = SweepStudy.create_or_continue(storage, meta, RegretSampler(space, meta.candidates))
        for point in points:
            study.add(space, point)
    print(f"{options.storage}: study {options.study!r} with {len(points)} imported points of {len(grid)} cells")
    return 0


def _meta(options: argparse.Namespace, points: list[PointResult], source: dict[str, str]) -> StudyMeta:
    candidates = tuple(
        options.candidate or dict.fromkeys(n for p in points for n in p.latencies_us if n != options.baseline)
    )
    filters = where(options)
    identity = {"imported": source, "where": filters, "baseline": options.baseline, "candidates": list(candidates)}
    digest = hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()
    workload: dict[Cell, tuple[tuple[tuple[int, ...], int, float], ...]] = {}
    return StudyMeta(
        name=options.study,
        provenance="imported",
        baseline=options.baseline,
        candidates=candidates,
        policy=Policy(options.min_gain, options.confidence, "isolated"),
        platform=Platform("", "", filters.get("platform", ""), 0, "", {}, {}),
        identity=identity,
        digest=f"sha256:{digest}",
        workload=workload,
        source={"imported_files": source, "imported_where": filters},
    )
