"""How much slower than the best backend the finished table may still be: an estimate that travels with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves import Posterior
from ccl_dispatch.tuner.fit.grid import FitGrid

# Curves drawn from what is known; and how much of the mean regret in them, and of its standard deviation, the estimate
# is. Seen on 1,120 runs (docs/benchmarks.md): the mean in the draws is half as much again as the true one.
_DRAWS = 256
_MEANS = 0.5
_DEVIATIONS = 1.5
_SEED = 20_260
_JITTER = 1e-10


def regret_estimate(grid: FitGrid, labels: Sequence[str]) -> float | None:
    """What the mean over log-spaced sizes of T(chosen)/T(best) - 1 hardly exceeds, in units of 1 (0.01 is 1 %).

    Curves are drawn from the posterior of the fit, some of them with an outlier that may be none as it was measured; in
    each the regret of the chosen labels is taken, over the sizes at which a candidate may be used, and the estimate is
    half the mean of these plus 1.5 of their standard deviations. Nine of ten true values lie below it
    (docs/benchmarks.md); a percentile, or the whole mean, that covers as many is further above the usual value. What
    min_gain leaves to the baseline on purpose counts as well. The draws are the same ones each time: same samples, same
    estimate.

    None when no candidate could be compared anywhere.
    """
    if not grid.curves:
        return None
    generator = np.random.default_rng(_SEED)
    octaves = np.asarray(grid.octaves)
    best = np.zeros((_DRAWS, len(grid.sizes)))
    chosen = np.zeros_like(best)
    used = np.asarray(labels)
    for name, curve in grid.curves.items():
        normals = generator.standard_normal((_DRAWS, len(grid.sizes)))
        draws = _drawn(curve, normals)
        if name in grid.acquitted:
            some = round(grid.acquitted[name].share * _DRAWS)
            draws[:some] = _drawn(grid.acquitted[name].curve, normals[:some])
        best = np.where(grid.open[name], np.maximum(best, draws), best)
        chosen = np.where(used == name, draws, chosen)
    losses = np.expm1(np.maximum(best - chosen, 0.0)) @ octaves / octaves.sum()
    return float(_MEANS * losses.mean() + _DEVIATIONS * losses.std())


def _drawn(curve: Posterior, normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Curves from a posterior, one for each row of standard normals."""
    # Eigenvalues rather than Cholesky: a posterior is often singular to rounding.
    values, vectors = np.linalg.eigh(curve.covariance + _JITTER * np.eye(len(curve.mean)))
    return np.asarray(curve.mean + (normals * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
