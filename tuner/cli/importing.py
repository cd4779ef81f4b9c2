"""`import`: measurements of others into a study, from which `build` makes a table."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from ccl_dispatch.runtime.errors import MeasurementFileError, StorageError, UsageError
from ccl_dispatch.runtime.table import Platform, Policy
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, Cell
from ccl_dispatch.tuner.cli.options import add_where, where
from ccl_dispatch.tuner.config.model import differences
from ccl_dispatch.tuner.fleet.merging import add_missing
from ccl_dispatch.tuner.measurements.csv_file import MAX_REPORTED, Measurements
from ccl_dispatch.tuner.measurements.importing import common_timing, import_measurements, joined, left_out
from ccl_dispatch.tuner.measurements.logs import LogHints, LogReading, read_layout, recognise
from ccl_dispatch.tuner.measurements.logs.lines import PLACEMENTS
from ccl_dispatch.tuner.measurements.logs.reading import NCCL_TESTS
from ccl_dispatch.tuner.measurements.rows import platforms
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.study import StudyMeta, SweepStudy, open_storage
from ccl_dispatch.tuner.study.databases import without_password
from ccl_dispatch.tuner.study.sweep_study import described_studies

EXAMPLE = """\
ccl-dispatch import measured.csv --baseline rccl --where platform=MI300X --storage imported.journal
         ccl-dispatch import rccl.log other.log --backend rccl --backend other --baseline rccl --storage logs.journal
         ccl-dispatch import benchmark_aiter.txt --world-size 4 --baseline rccl --storage sglang.journal"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="CSV, logs of rccl-tests or nccl-tests, print-outs of SGLang's benchmark_aiter.py; told apart by content",
    )
    parser.add_argument("--storage", required=True, metavar="URL", help="a journal file, or any Optuna storage URL")
    parser.add_argument("--baseline", required=True, metavar="NAME", help="the backend that is used when in doubt")
    parser.add_argument("--candidate", action="append", default=[], metavar="NAME", help="default: every other backend")
    parser.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help="whose latencies a log of rccl-tests or nccl-tests has: once for all such logs, or once for each, in "
        "their order; default: rccl or nccl, as the log says",
    )
    parser.add_argument(
        "--placement",
        choices=PLACEMENTS,
        default=PLACEMENTS[0],
        help="which columns of such a log (default: %(default)s, as frameworks call it)",
    )
    parser.add_argument("--world-size", type=int, metavar="N", help="ranks, for logs that don't say it")
    parser.add_argument("--collective", default="", choices=COLLECTIVES, help="for logs that don't name their program")
    parser.add_argument(
        "--platform", default="", metavar="NAME", help="the machine, where the files don't say it alike"
    )
    parser.add_argument("--study", default="imported", metavar="NAME", help="what the study is called")
    parser.add_argument(
        "--min-gain", type=float, default=0.03, metavar="SHARE", help="what a candidate must gain to be used"
    )
    parser.add_argument("--confidence", type=float, default=0.95, metavar="SHARE", help="with which confidence")
    add_where(parser)


def run(options: argparse.Namespace) -> int:
    """Import; says how many points were taken, in which unit the sizes were read, and what was left out."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not 0 <= options.min_gain < 1 or not 0.5 < options.confidence < 1:
        raise UsageError(
            f"--min-gain {options.min_gain} --confidence {options.confidence}: expected 0 <= min-gain < 1 and "
            "0.5 < confidence < 1"
        )
    if options.world_size is not None and options.world_size < 2:
        raise UsageError(f"--world-size {options.world_size}: expected at least 2, the ranks of one group")
    files = _files(options)
    readings = _readings(files, options)
    measurements = joined(readings, options.platform)
    timing = common_timing(readings)
    points = import_measurements(measurements, options.baseline, options.candidate)
    for line in left_out(measurements, points, options.baseline):
        print(line, file=sys.stderr)
    source = _source(files, readings)
    meta = _meta(options, points, source, timing, _device(options, measurements))
    space = SearchSpace.of((point.cell.name, point.size) for point in points)
    shown = without_password(options.storage)
    with open_storage(options.storage, write=True) as storage:
        if options.study in described_studies(storage):
            there = SweepStudy.load(storage, options.study)
            if there.trials():
                _check_same_import(there.meta, meta, shown)
        study = SweepStudy.create_or_continue(storage, meta, RegretSampler(space, meta.candidates))
        with study.filled_by("import", files):
            added = add_missing(study, space, points)
    known = len(points) - added
    print(
        f"{shown}: study {options.study!r} with {counted(len(points), 'imported point')} of "
        f"{counted(len(space.cells), 'cell')}" + (f", {known} of them there already" if known else "")
    )
    print(
        f"next: ccl-dispatch build --storage {shlex.quote(shown)} --study {shlex.quote(options.study)} --out table.yaml"
    )
    return 0


def _check_same_import(there: StudyMeta, wanted: StudyMeta, where: str) -> None:
    """Refuse to bring anything but the very same into a study that is there already.

    Raises:
        StorageError: it was made of other files, or otherwise.
    """
    one, other = _said(there), _said(wanted)
    changed = []
    if one.get("imported") and one["imported"] != other["imported"]:
        changed.append(f"files: {_named(one['imported'])} against {_named(other['imported'])}")
        # How each is read differs with them.
        for said in (one, other):
            said.pop("imported")
            said.pop("read_as", None)
    changed += differences(one, other)
    if changed:
        raise StorageError(
            f"{where} has a study {there.name!r} already, which is not of this import; what differs, the study's "
            f"first: {'; '.join(changed)}. Import all files that belong together in one call, and give another --study "
            "or --storage"
        )


def _named(digests: Mapping[str, str]) -> str:
    return ", ".join(f"{name} (sha256 {digest[:8]})" for name, digest in sorted(digests.items()))


def _said(meta: StudyMeta) -> dict[str, Any]:
    """What makes an import what it is: the files and how they are read, and what its table asks of a gain."""
    return {**meta.identity, "policy": meta.policy._asdict(), "platform": meta.platform._asdict()}


def _files(options: argparse.Namespace) -> dict[str, bytes]:
    """What the files hold, by name; a copy of another one tells nothing more, and is left out."""
    files: dict[str, bytes] = {}
    for name in options.files:
        data = _data(name)
        same = next((other for other, known in files.items() if known == data), None)
        # A log may be given once for each of several backends.
        if same is None or len(options.backend) > 1:
            files[name] = data
        else:
            print(f"{name}: holds the same as {same}, left out", file=sys.stderr)
    return files


def _data(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as problem:
        raise MeasurementFileError(f"can't be read: {problem.strerror or problem}", source=name) from None


def _readings(files: dict[str, bytes], options: argparse.Namespace) -> dict[str, LogReading]:
    """What each file gave; what was read and what could not be is said as it is found."""
    logs = [name for name, data in files.items() if recognise(data, name) == NCCL_TESTS]
    if len(options.backend) not in {0, 1, len(logs)}:
        raise UsageError(
            f"--backend is given {len(options.backend)} times for {len(logs)} logs of rccl-tests or nccl-tests "
            f"({', '.join(logs) or 'none'}): expected once for all, or once for each, in their order"
        )
    if options.backend and not logs:
        raise UsageError("--backend names whose latencies an nccl-tests log has; these files name their backends")
    names = options.backend * len(logs) if len(options.backend) == 1 else options.backend
    backends = dict(zip(logs, names, strict=False))
    readings = {}
    for name, data in files.items():
        hints = LogHints(
            backends.get(name, ""), options.collective, options.world_size or 0, options.placement, options.platform
        )
        reading = readings[name] = read_layout(data, name, hints, where(options))
        for note in reading.notes:
            print(f"{name}: {note}", file=sys.stderr)
        for line, problem in reading.problems[:MAX_REPORTED]:
            print(f"{name}:{line}: left out: {problem}", file=sys.stderr)
        if len(reading.problems) > MAX_REPORTED:
            print(f"{name}: {len(reading.problems) - MAX_REPORTED} more lines were left out", file=sys.stderr)
    return readings


def _source(files: dict[str, bytes], readings: dict[str, LogReading]) -> dict[str, Any]:
    """What the table's evidence will say of the files: which, and how those were read that are no CSV."""
    short = {name: Path(name).name for name in files}
    if len({*short.values()}) < len(short):
        short = {name: name for name in files}
    source: dict[str, Any] = {
        "imported_files": {short[name]: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    }
    read_as = {short[name]: list(readings[name].notes) for name in files if readings[name].timing}
    return source | ({"imported_as": read_as} if read_as else {})


def _device(options: argparse.Namespace, measurements: Measurements) -> str:
    said = platforms((*measurements.rows, *measurements.exclusions))
    return options.platform or where(options).get("platform", "") or (said[0] if len(said) == 1 else "")


def _meta(
    options: argparse.Namespace, points: list[PointResult], source: dict[str, Any], timing: str, device: str
) -> StudyMeta:
    names = dict.fromkeys(n for p in points for n in p.latencies_us if n != options.baseline)
    names |= dict.fromkeys(item.backend for p in points for item in p.exclusions)
    candidates = tuple(options.candidate or names)
    filters = where(options)
    identity = {
        "imported": source["imported_files"],
        "where": filters,
        "baseline": options.baseline,
        "candidates": list(candidates),
    }
    identity |= {"read_as": read_as} if (read_as := source.get("imported_as")) else {}
    digest = hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()
    workload: dict[Cell, tuple[tuple[tuple[int, ...], int, float], ...]] = {}
    return StudyMeta(
        name=options.study,
        provenance="imported",
        baseline=options.baseline,
        candidates=candidates,
        policy=Policy(options.min_gain, options.confidence, timing),
        platform=Platform("", "", device, 0, "", {}, {}),
        identity=identity,
        digest=f"sha256:{digest}",
        workload=workload,
        source=source | {"imported_where": filters},
    )
