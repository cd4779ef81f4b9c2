"""Jumps: runs of sizes at which a curve lies elsewhere than a smooth one could, as where a library changes protocol.

A stationary process has one roughness everywhere. Where a curve is flat but for a few steps the likelihood settles for
flat, and takes the three points of an island for noise. So runs of points are looked for that a level of their own
explains better, by more than the odds of finding one among all runs.

Adding a run with indicator u and a level of prior variance v to a process with covariance K raises the log evidence of
its values y by (q^2 v / (1 + v s) - log(1 + v s)) / 2, with q = u'K^-1 y and s = u'K^-1 u (matrix determinant lemma and
Sherman-Morrison). With prefix sums of K^-1 that takes no loop over runs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The deviation of a level, in log units: 3 % to 60 % are common.
LEVEL = 0.3


class Jump(NamedTuple):
    """A run of sizes with a level of its own; all in log2 of bytes.

    Attributes:
        cell: place of the cell that has it, None for all that are alike.
        below, low: the last measured size below the run (-inf where it starts with the curve), and its first one.
        high, above: its last one, and the next one above (inf where it ends with the curve).
    """

    cell: int | None
    below: float
    low: float
    high: float
    above: float

    def edges(self, x: Array) -> tuple[Array, Array]:
        """How likely each size lies above the lower edge, and below the upper one: an edge may be anywhere between."""
        up, down = np.ones(len(x)), np.ones(len(x))
        if math.isfinite(self.below):
            up = np.clip((x - self.below) / (self.low - self.below), 0.0, 1.0)
        if math.isfinite(self.above):
            down = np.clip((self.above - x) / (self.above - self.high), 0.0, 1.0)
        return up, down

    def inside(self, x: Array) -> Array:
        """How likely each size lies in the run."""
        up, down = self.edges(x)
        return up * down

    def spread(self, x: Array) -> Array:
        """Covariance of being inside, for a level of 1: where between two sizes an edge lies is not known.

        Of the indicators of x and x' being beyond an evenly distributed edge it is min(m, m') - m m'.
        """
        total = np.zeros((len(x), len(x)))
        for share in self.edges(x):
            total += np.minimum(share[:, None], share[None, :]) - share[:, None] * share[None, :]
        return total


def best_run(x: Array, pulls: Array, inverse: Array, level: float) -> tuple[float, int, int]:
    """The run of points (first and last place) that a level of its own explains best, with what it raises the log
    evidence by beyond the odds of one run among all.

    Args:
        x: rising log2 sizes; runs begin and end where they change.
        pulls: K^-1 y of the points, K the covariance and y the values of these and any others.
        inverse: their part of K^-1.
        level: standard deviation of the run's level, in log units.
    """
    count = len(x)
    sums = np.zeros((count + 1, count + 1))
    sums[1:, 1:] = inverse.cumsum(0).cumsum(1)
    pulls = np.concatenate([[0.0], pulls.cumsum()])
    corner = np.diagonal(sums)
    # Rows: where a run starts; columns: where it ends, exclusively.
    weight = np.maximum(corner[None, :] - 2 * sums + corner[:, None], 0.0)
    pull = pulls[None, :] - pulls[:, None]
    gains = (pull**2 * level**2 / (1 + level**2 * weight) - np.log1p(level**2 * weight)) / 2
    cut = np.concatenate([[True], x[1:] > x[:-1], [True]])
    allowed = cut[:, None] & cut[None, :] & _later(count)
    gains = np.where(allowed, gains, -np.inf)
    start, end = divmod(int(np.argmax(gains)), count + 1)
    return float(gains[start, end]) - math.log(max(int(allowed.sum()), 1)), start, end - 1


@lru_cache(maxsize=256)
def _later(count: int) -> NDArray[np.bool_]:
    """Whether a run may start at the row and end before the column: not with nothing in it, nor with all points."""
    allowed = np.triu(np.ones((count + 1, count + 1), dtype=bool), 1)
    allowed[0, count] = False
    return allowed
