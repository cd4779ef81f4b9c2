"""How much slower than the best backend the finished table may still be: an estimate that travels with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.fit.grid import FitGrid

# Curves drawn from what is known; and how much of the mean regret in them, and of its standard deviation, the estimate
# is. Seen on 1,728 runs (docs/benchmarks.md), as is the belief that something unseen lies between the measured sizes:
# half of what the search has, which is to look there as well.
_DRAWS = 256
_MEANS = 0.5
_DEVIATIONS = 0.8
_UNSEEN = 0.03
_COVERED = 0.9
_SEED = 20_260


def regret_estimate(grid: FitGrid, labels: Sequence[str], *, min_gain: float = 0.0) -> float | None:
    """What the mean over log-spaced sizes of T(chosen)/T(best) - 1 hardly exceeds, in units of 1 (0.01 is 1 %).

    Curves are drawn from the posterior of the fit, some of them with an outlier that may be none as it was measured;
    and from what is known if something unseen lies between the measured sizes, which is believed to 3 %. In each the
    regret of the chosen labels is taken, over the sizes at which a candidate may be used, and the estimate is half the
    mean of these plus 0.8 of their standard deviations. Nine of ten true values lie below it (docs/benchmarks.md); a
    percentile that covers as many is further above the usual value. What min_gain leaves to the baseline on purpose
    counts as well; it is nearly certain, as half a mean would deny, so that with one the estimate is at least the 90th
    percentile. The draws are the same ones each time: same samples, same estimate.

    None when no candidate could be compared anywhere.
    """
    if not grid.curves:
        return None
    generator = np.random.default_rng(_SEED)
    normals = {name: generator.standard_normal((_DRAWS, len(grid.sizes))) for name in grid.curves}
    likely = {name: curve.drawn(normals[name]) for name, curve in grid.curves.items()}
    for name, otherwise in grid.acquitted.items():
        some = round(otherwise.share * _DRAWS)
        likely[name][:some] = otherwise.curve.drawn(normals[name][:some])
    unseen = {name: curve.drawn(normals[name]) for name, curve in grid.surprised.items()}
    found = np.stack([_losses(grid, labels, draws) for draws in (likely, unseen)])
    weights = np.array([[1 - _UNSEEN], [_UNSEEN]]) / _DRAWS
    mean = float((weights * found).sum())
    deviation = float(np.sqrt((weights * (found - mean) ** 2).sum()))
    estimate = _MEANS * mean + _DEVIATIONS * deviation
    return max(estimate, _percentile(found, weights)) if min_gain > 0 else estimate


def _percentile(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The value that `_COVERED` of the weight lies at or below."""
    order = np.argsort(values, axis=None)
    reached = np.cumsum(np.broadcast_to(weights, values.shape).ravel()[order])
    return float(values.ravel()[order][np.searchsorted(reached, _COVERED)])


def _losses(grid: FitGrid, labels: Sequence[str], draws: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The regret of the labels in each draw of all candidates' curves."""
    octaves, used = np.asarray(grid.octaves), np.asarray(labels)
    best = np.zeros((_DRAWS, len(grid.sizes)))
    chosen = np.zeros_like(best)
    for name, curves in draws.items():
        best = np.where(grid.open[name], np.maximum(best, curves), best)
        chosen = np.where(used == name, curves, chosen)
    return np.asarray(np.expm1(np.maximum(best - chosen, 0.0)) @ octaves / octaves.sum())
