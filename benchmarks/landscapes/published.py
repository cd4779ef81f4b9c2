"""The published measurements as landscapes: every two backends of a cell that share a wide enough range of sizes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from ccl_dispatch.tuner.measurements.csv_file import read_measurements
from ccl_dispatch.tuner.measurements.replay import ReplayCurves
from landscapes.model import Landscape

FOLDER = Path(__file__).parents[2] / "tests" / "data" / "measurements"
LEAST_OCTAVES = 5
#: The libraries that serve everything: the baseline where one of two backends is theirs.
VENDORS = ("rccl", "nccl")


def published(folder: Path = FOLDER) -> list[Landscape]:
    """All of them, file by file; between measured sizes they are what `replay` makes of the medians there.

    Raises:
        MeasurementFileError: a file is wrong.
    """
    found: list[Landscape] = []
    numbers: dict[str, int] = {}
    for path in sorted(folder.glob("*.csv")):
        for platform in _platforms(path):
            kind = path.stem.split("-")[0]
            number = numbers[kind] = numbers.get(kind, -1) + 1
            found += _of_platform(path, platform, f"{kind}{number}")
    return found


def _of_platform(path: Path, platform: str, label: str) -> list[Landscape]:
    # Files keep several platforms apart by a column; a ReplayCurves takes one.
    found = []
    curves = ReplayCurves(read_measurements(path, {"platform": platform}))
    for cell in curves.cells():
        for pair in itertools.combinations(sorted(curves.backends(cell), key=_rank), 2):
            try:
                low, high = curves.range_of(cell, pair)
            except ValueError:
                continue  # nothing in common
            if high < low << LEAST_OCTAVES:
                continue
            knots = np.array([size for size in curves.sizes(cell) if low <= size <= high], np.int64)
            log_us = np.log([[curves.true_latency_us(cell, name, int(size)) for size in knots] for name in pair])
            name = f"{label}-{cell.dtype}-ws{cell.world_size}-{pair[0]}-{pair[1]}"
            found.append(Landscape(name, "published", knots, log_us, cell, pair))
    return found


def _rank(backend: str) -> int:
    """What serves everything is the baseline where it is one of the two."""
    return 0 if backend in VENDORS else 1


def _platforms(path: Path) -> list[str]:
    """The platforms of a file in the order of its rows."""
    from csv import DictReader

    with path.open(encoding="utf-8", newline="") as lines:
        return list(dict.fromkeys(row["platform"] for row in DictReader(lines)))
