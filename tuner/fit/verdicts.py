"""What single points say beside the bands: ties, and workload shapes that disagree with their band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ccl_dispatch.runtime.table import TIE_FLOOR, Band, Override, Tie
from ccl_dispatch.tuner.fit.bands import as_gain, backend_at, flipped
from ccl_dispatch.tuner.fit.grid import FitGrid
from ccl_dispatch.tuner.fit.points import FitPoint, Workload
from ccl_dispatch.tuner.fit.segment import runs
from ccl_dispatch.tuner.statistics import shared_confidence


def find_ties(grid: FitGrid, *, min_gain: float, confidence: float) -> tuple[Tie, ...]:
    """Runs of sizes at which a candidate lies in the tie band around the baseline, by its curve at the confidence."""
    band = math.log1p(max(min_gain, TIE_FLOOR))
    sure = NormalDist().inv_cdf((1 + shared_confidence(confidence, len(grid.curves))) / 2)
    found: list[Tie] = []
    for candidate, curve in grid.curves.items():
        inside = (np.abs(curve.mean) + sure * curve.deviation <= band) & grid.open[candidate]
        found += [
            Tie(candidate, grid.sizes[start], grid.sizes[end]) for start, end in runs(inside.tolist()) if inside[start]
        ]
    return tuple(sorted(found, key=lambda tie: (tie.low, tie.backend)))


def find_overrides(
    points: Sequence[FitPoint], bands: Sequence[Band], workload: Workload, *, baseline: str, min_gain: float
) -> tuple[Override, ...]:
    """Workload sizes whose own settled verdict against min_gain disagrees with the band that they lie in."""
    threshold = math.log1p(min_gain)
    overrides = []
    for point in points:
        if point.size not in workload:
            continue
        band = backend_at(bands, point.size)
        proven = {name: r for name, r in point.ratios.items() if r.interval.low > threshold}
        in_band = point.ratios.get(band)
        if band != baseline and (in_band is None or in_band.interval.high >= threshold):
            continue
        if proven:
            use = max(proven, key=lambda name: proven[name].interval.median)
            against, ratio = baseline, proven[use]
            gain, interval = as_gain(ratio.interval)
        elif in_band is not None:
            use, against, ratio = baseline, band, in_band
            gain, interval = as_gain(flipped(ratio.interval))
        else:
            continue
        if interval is not None:
            shape = tuple(workload[point.size][0])
            overrides.append(Override(point.size, shape, use, against, gain, interval, len(ratio.samples)))
    return tuple(overrides)
