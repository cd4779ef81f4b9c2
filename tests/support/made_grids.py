"""Grids of a fit with curves that are given, where a whole fit would draw its own through the samples."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np

from ccl_dispatch.tuner.curves import Acquittal, Noise, PointSamples, Posterior
from ccl_dispatch.tuner.fit.grid import FitGrid
from ccl_dispatch.tuner.fit.points import FitPoint, Ratio, log_shares
from ccl_dispatch.tuner.statistics import Interval

#: Of a candidate at one size: the mean and the deviation of its curve, and whether it may be used there.
At = tuple[float, float, bool]


def made_point(size: int, *, slower: Sequence[str] = (), **leads: float) -> FitPoint:
    """A measured size with 40 samples of each candidate that scatter by 1 % around its lead.

    Args:
        slower: candidates that are proven to be slower there.
    """
    rng = random.Random(size)
    ratios = {}
    for name, lead in leads.items():
        values = tuple(rng.gauss(lead, 0.01) for _ in range(40))
        interval = Interval(lead, -math.inf, -0.001 if name in slower else math.inf)
        ratios[name] = Ratio(tuple(sorted(values)), interval, 1.0, PointSamples(values))
    return FitPoint(size, 1.0, 1.0, ratios, {})


def made_grid(
    points: Sequence[FitPoint],
    curves: Mapping[str, Sequence[At]],
    *,
    sizes: Sequence[int] = (),
    acquitted: Mapping[str, Acquittal] | None = None,
    surprised: Mapping[str, Posterior] | None = None,
) -> FitGrid:
    """A grid at `sizes`, or those of the points, each of which counts its octaves."""
    sizes = tuple(sizes or (point.size for point in points))
    octaves = tuple(log_shares(sizes))
    found = {name: posterior([at[:2] for at in curve]) for name, curve in curves.items()}
    usable = {name: np.array([at[2] for at in curve]) for name, curve in curves.items()}
    noises = dict.fromkeys(curves, Noise(0.05))
    return FitGrid(tuple(points), sizes, octaves, octaves, found, acquitted or {}, surprised or found, noises, usable)


def posterior(at: Sequence[tuple[float, float]]) -> Posterior:
    """A curve of these means and deviations, each size for itself."""
    return Posterior(np.array([mean for mean, _ in at]), np.diag([deviation**2 for _, deviation in at]))
