"""What single points say beside the bands: ties, and workload shapes that disagree with their band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ccl_dispatch.runtime.table import TIE_FLOOR, Band, Override, Tie
from ccl_dispatch.tuner.fit.bands import as_gain, backend_at, flipped
from ccl_dispatch.tuner.fit.evidence import band_evidence
from ccl_dispatch.tuner.fit.grid import FitGrid
from ccl_dispatch.tuner.fit.points import Workload
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
    grid: FitGrid,
    bands: Sequence[Band],
    workload: Workload,
    *,
    baseline: str,
    min_gain: float,
    confidence: float,
) -> tuple[Override, ...]:
    """Workload sizes whose own samples prove, against min_gain, something else than the band that they lie in.

    They prove it as they would for a band of this one size, at the confidence for all sizes and candidates together:
    each of them was asked.
    """
    threshold = math.log1p(min_gain)
    overrides = []
    asked = [point for point in grid.points if point.size in workload]
    share = shared_confidence(confidence, sum(len(point.ratios) for point in asked) or 1)
    for point in asked:
        band = backend_at(bands, point.size)
        seen = {name: band_evidence([point], name, share, grid.noises[name]).interval for name in point.ratios}
        proven = {name: interval for name, interval in seen.items() if interval.low > threshold}
        in_band = seen.get(band)
        if band != baseline and (in_band is None or in_band.high >= threshold):
            continue
        if proven:
            name = use = max(proven, key=lambda name: proven[name].median)
            against = baseline
            gain, interval = as_gain(proven[name])
        elif in_band is not None:
            name = against = band
            use = baseline
            gain, interval = as_gain(flipped(in_band))
        else:
            continue
        if interval is not None:
            shape, samples = tuple(workload[point.size][0]), len(point.ratios[name].samples)
            overrides.append(Override(point.size, shape, use, against, gain, interval, samples))
    return tuple(overrides)
