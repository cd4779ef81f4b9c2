"""The covariance of a few cells' points under a hypothesis: its inverse, and how likely it makes the points.

Source: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves.jumps import LEVEL, Jump
from ccl_dispatch.tuner.curves.kernel import JITTER, SHAPES, Shape
from ccl_dispatch.tuner.curves.points import Joined, Points, join, once_for_each

Array = NDArray[np.float64]


@lru_cache(maxsize=16)
def inverse_of(joined: Joined, shape: Shape, likeness: float, unit: float, jumps: tuple[Jump, ...] = ()) -> Array:
    """The inverse of the points' covariance. Outliers, jumps and the curve itself are asked for one after the other."""
    covariance = _covariance_of(joined.parts.kernel(shape), joined, likeness, unit, jumps)
    return np.asarray(np.linalg.inv(covariance), dtype=np.float64)


@once_for_each
def of_any_shape(points: Points, unit: float) -> list[float]:
    """Log marginal likelihood of one cell's points under each of all shapes, see `likelihoods`."""
    return likelihoods(join([points]), SHAPES, 0.0, unit, ())


def _covariance_of(kernel: Array, joined: Joined, likeness: float, unit: float, jumps: Sequence[Jump]) -> Array:
    """The covariance of the points, or one for each of several kernels (which are used up): with noise and jumps."""
    kernel *= unit**2
    if joined.only is None:
        kernel *= np.where(joined.elsewhere, likeness, 1.0)
    places = np.arange(len(joined.x))
    kernel[..., places, places] += joined.variances + JITTER
    for jump in jumps:
        members = joined.members(jump)
        kernel += (LEVEL * unit) ** 2 * np.outer(members, members)
    return kernel


def likelihoods(
    joined: Joined, shapes: Sequence[Shape], likeness: float, unit: float, jumps: Sequence[Jump]
) -> list[float]:
    """Log marginal likelihood of the points under each shape, but for a constant."""
    covariances = _covariance_of(joined.parts.kernels(shapes), joined, likeness, unit, jumps)
    factors = np.linalg.cholesky(covariances)
    column = np.broadcast_to(joined.values[:, None], (*factors.shape[:-1], 1))
    whitened = np.linalg.solve(factors, column)[..., 0]
    logs = np.log(np.diagonal(factors, axis1=-2, axis2=-1))
    found: list[float] = (-0.5 * (whitened**2).sum(-1) - logs.sum(-1)).tolist()
    return found
