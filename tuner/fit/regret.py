"""How much slower than the best backend the finished table may still be: an estimate that travels with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ccl_dispatch.runtime.table import Band
from ccl_dispatch.tuner.fit.bands import backend_at
from ccl_dispatch.tuner.fit.curve import Curve
from ccl_dispatch.tuner.fit.points import FitPoint

# Each gap between measured sizes is looked at in the middle of this many equal parts of its log size.
_PARTS = 8


def regret_estimate(
    points: Sequence[FitPoint], bands: Sequence[Band], curves: Mapping[str, Curve], *, baseline: str
) -> float:
    """The expected mean over log-spaced sizes of T(chosen)/T(best) - 1, in units of 1 (0.01 is 1 %).

    At a size the log-ratio of a candidate to what the bands choose is taken as normal, with the mean and variance of
    its curve (noise of the medians, and what the curve may do between two measured sizes). With X its value the
    expected regret is E[max(exp(X) - 1, 0)] = exp(m + v/2) Phi((m + v)/s) - Phi(m/s), summed over the backends that
    may be used there (a bound for their maximum), and averaged over the measured range. What min_gain leaves to the
    baseline on purpose counts as well.
    """
    return _mean_regret(points, bands, curves, baseline, 0.0)


def removable_regret(
    points: Sequence[FitPoint],
    bands: Sequence[Band],
    curves: Mapping[str, Curve],
    *,
    baseline: str,
    min_gain: float,
) -> float:
    """The part of the regret that more measuring could still win: candidates count by what they gain beyond min_gain.

    A candidate that is certainly ahead by less than min_gain stays unused however much is measured.
    """
    return _mean_regret(points, bands, curves, baseline, math.log1p(min_gain))


def _mean_regret(
    points: Sequence[FitPoint],
    bands: Sequence[Band],
    curves: Mapping[str, Curve],
    baseline: str,
    threshold: float,
) -> float:
    if len(points) == 1:
        (point,) = points
        moments = {name: (curve.means[0] - threshold, curve.variances[0]) for name, curve in curves.items()}
        return _regret_at(moments, backend_at(bands, point.size), baseline)
    total = 0.0
    for low, high in pairwise(points):
        # Inside a gap only what was measured at both of its ends may be compared.
        known = {name: curve for name, curve in curves.items() if name in low.ratios and name in high.ratios}
        if not known:
            continue
        octaves = math.log2(high.size / low.size)
        for step in range(_PARTS):
            part = (step + 0.5) / _PARTS
            moments = {}
            for name, curve in known.items():
                mean, variance = curve.between(curve.sizes.index(low.size), part)
                moments[name] = (mean - threshold, variance)
            use = backend_at(bands, int(low.size * (high.size / low.size) ** part))
            total += octaves / _PARTS * _regret_at(moments, use, baseline)
    return total / math.log2(points[-1].size / points[0].size)


def _regret_at(moments: Mapping[str, tuple[float, float]], use: str, baseline: str) -> float:
    """Expected T(use)/T(best) - 1 from mean and variance of each candidate's lead over the baseline."""
    own_mean, own_variance = moments.get(use, (0.0, 0.0))
    rivals = {name: value for name, value in moments.items() if name != use}
    if use != baseline:
        rivals[baseline] = (0.0, 0.0)
    return math.fsum(_positive_part(mean - own_mean, variance + own_variance) for mean, variance in rivals.values())


def _positive_part(mean: float, variance: float) -> float:
    """E[max(exp(X) - 1, 0)] of a normal X."""
    if variance <= 0:
        return max(math.expm1(mean), 0.0)
    deviation = math.sqrt(variance)
    return math.exp(mean + variance / 2) * _phi((mean + variance) / deviation) - _phi(mean / deviation)


def _phi(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2
