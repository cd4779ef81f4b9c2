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
# How many standard deviations above the expected regret the estimate lies. On simulated landscapes (smooth, stepped,
# with islands and ties; 9 to 25 sizes with 2 to 30 samples) it then covers the true regret in about nine cells of ten.
_MARGIN = 1.0


def regret_estimate(
    points: Sequence[FitPoint], bands: Sequence[Band], curves: Mapping[str, Curve], *, baseline: str
) -> float | None:
    """What the mean over log-spaced sizes of T(chosen)/T(best) - 1 hardly exceeds, in units of 1 (0.01 is 1 %).

    At a size the lead of another backend over the one that the bands choose is taken as normal, with the mean and
    variance of its curve (noise of the medians, and what the curve may do between two measured sizes). With X its value
    the regret there is max(exp(X) - 1, 0), summed over the backends that may be used (a bound for their maximum). Its
    expectation E[exp(X) - 1; X > 0] = exp(m + v/2) Phi((m + v)/s) - Phi(m/s) is averaged over the measured range, and
    `_MARGIN` standard deviations of that average are added: inside a gap between two measured sizes the errors are
    taken as one, between gaps as independent. What min_gain leaves to the baseline on purpose counts as well.

    None when no candidate could be compared anywhere.
    """
    if not curves:
        return None
    expected, deviation = _mean_regret(points, bands, curves, baseline, 0.0)
    return expected + _MARGIN * deviation


def removable_regret(
    points: Sequence[FitPoint],
    bands: Sequence[Band],
    curves: Mapping[str, Curve],
    *,
    baseline: str,
    min_gain: float,
) -> float:
    """The expected regret that more measuring could still win: candidates count by what they gain beyond min_gain.

    A candidate that is certainly ahead by less than min_gain stays unused however much is measured. There is no margin
    in it: it is compared between cells and with a budget, not promised to a reader.
    """
    return _mean_regret(points, bands, curves, baseline, math.log1p(min_gain))[0]


def _mean_regret(
    points: Sequence[FitPoint],
    bands: Sequence[Band],
    curves: Mapping[str, Curve],
    baseline: str,
    threshold: float,
) -> tuple[float, float]:
    """Expectation and standard deviation of the mean regret; candidates count by their lead beyond `threshold`."""
    if len(points) == 1:
        (point,) = points
        moments = {name: (curve.means[0] - threshold, curve.variances[0]) for name, curve in curves.items()}
        return _regret_at(moments, backend_at(bands, point.size), baseline)
    span = math.log2(points[-1].size / points[0].size)
    total, variance = 0.0, 0.0
    for low, high in pairwise(points):
        # Inside a gap only what was measured at both of its ends may be compared.
        known = {name: curve for name, curve in curves.items() if name in low.ratios and name in high.ratios}
        if not known:
            continue
        share = math.log2(high.size / low.size) / _PARTS / span
        spread = 0.0
        for step in range(_PARTS):
            part = (step + 0.5) / _PARTS
            moments = {}
            for name, curve in known.items():
                mean, own = curve.between(curve.sizes.index(low.size), part)
                moments[name] = (mean - threshold, own)
            use = backend_at(bands, int(low.size * (high.size / low.size) ** part))
            expected, deviation = _regret_at(moments, use, baseline)
            total += share * expected
            spread += share * deviation
        variance += spread**2
    return total, math.sqrt(variance)


def _regret_at(moments: Mapping[str, tuple[float, float]], use: str, baseline: str) -> tuple[float, float]:
    """Mean and deviation of T(use)/T(best) - 1 from mean and variance of each candidate's lead over the baseline."""
    own_mean, own_variance = moments.get(use, (0.0, 0.0))
    rivals = {name: value for name, value in moments.items() if name != use}
    if use != baseline:
        rivals[baseline] = (0.0, 0.0)
    parts = [_positive_part(mean - own_mean, variance + own_variance) for mean, variance in rivals.values()]
    return math.fsum(expected for expected, _ in parts), math.fsum(deviation for _, deviation in parts)


def _positive_part(mean: float, variance: float) -> tuple[float, float]:
    """Mean and standard deviation of max(exp(X) - 1, 0) for a normal X."""
    deviation = math.sqrt(variance)
    if deviation == 0:
        return max(math.expm1(mean), 0.0), 0.0
    none = _phi(mean / deviation)
    once = math.exp(mean + variance / 2) * _phi((mean + variance) / deviation)
    twice = math.exp(2 * (mean + variance)) * _phi((mean + 2 * variance) / deviation)
    # Differences of nearly equal numbers may fall below zero by rounding.
    expected = max(once - none, 0.0)
    return expected, math.sqrt(max(twice - 2 * once + none - expected**2, 0.0))


def _phi(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2
