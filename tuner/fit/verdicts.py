"""What single points say beside the bands: ties, and workload shapes that disagree with their band."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ccl_dispatch.runtime.table import Band, Override, Tie
from ccl_dispatch.tuner.fit.bands import as_gain, backend_at, flipped
from ccl_dispatch.tuner.fit.points import FitPoint, Workload

# The tie band is at least 1 % wide on either side: with min_gain 0 it would be a point, which nothing is ever proven to
# lie in, and backends that differ by less than 1 % are alike to every caller.
TIE_FLOOR = 0.01


def find_ties(points: Sequence[FitPoint], candidates: Sequence[str], min_gain: float) -> tuple[Tie, ...]:
    """Runs of neighbouring measured sizes at which a candidate's interval lies in the tie band around the baseline."""
    band = math.log1p(max(min_gain, TIE_FLOOR))
    found: list[Tie] = []
    for candidate in candidates:
        current: Tie | None = None
        for point in points:
            ratio = point.ratios.get(candidate)
            if ratio is not None and -band <= ratio.interval.low and ratio.interval.high <= band:
                current = Tie(candidate, current.low if current is not None else point.size, point.size)
            elif current is not None:
                found.append(current)
                current = None
        if current is not None:
            found.append(current)
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
