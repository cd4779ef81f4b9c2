"""How much the values of a curve at two sizes have to do with each other: an offset, a smooth and a rough part.

Source: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning (2006), chapter 4.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves.noise import deviation_of, median_of

Array = NDArray[np.float64]

_ROUGH_OCTAVES = 2.5
_OFFSET = 0.4
# Curves that move by more than this are scaled down to it, and back.
_UNIT = 0.35
# Added to every variance, so that a matrix of points that say the same can be inverted.
JITTER = 1e-9


class Shape(NamedTuple):
    """One hypothesis of how a curve moves: deviations of its parts in log units, and the octaves of the smooth one."""

    smooth: float
    octaves: float
    rough: float


# From a tie that does not move to a curve that moves by more than half over the range; steps from half a percent up.
_SMOOTH = ((0.0, 6.0), *itertools.product((0.03, 0.1, 0.3, 0.6), (2.5, 6.0)))
_ROUGH = (0.005, 0.02, 0.06, 0.15, 0.35)
SHAPES = tuple(Shape(*smooth, rough) for smooth, rough in itertools.product(_SMOOTH, _ROUGH))


def unit_of(values: Array) -> float:
    """By how much the shapes are scaled for a curve of these values, at least 1."""
    return max(1.0, deviation_of(values - median_of(values)) / _UNIT)


class KernelParts:
    """What every kernel between the same two rows of sizes is made of: exponentials are dear, sums are not."""

    def __init__(self, first: Array, second: Array) -> None:
        self._distance = np.abs(first[:, None] - second[None, :])
        self._rough = np.exp(-self._distance / _ROUGH_OCTAVES)
        self._smooth: dict[float, Array] = {}

    def kernel(self, shape: Shape) -> Array:
        """The kernel of that shape; a new array."""
        covariance = shape.rough**2 * self._rough
        covariance += _OFFSET**2
        if shape.smooth:
            covariance += shape.smooth**2 * self._smooth_part(shape.octaves)
        return np.asarray(covariance)

    def kernels(self, shapes: Sequence[Shape]) -> Array:
        """`kernel` of each of many shapes, in one array: the loop over them is what costs."""
        if shapes is SHAPES:
            # Each smooth part with each rough one: few of either are to be computed.
            parts = [smooth**2 * self._smooth_part(octaves) for smooth, octaves in _SMOOTH]
            rest = [rough**2 * self._rough + _OFFSET**2 for rough in _ROUGH]
            return np.add(np.stack(parts)[:, None], np.stack(rest)).reshape(len(SHAPES), *self._rough.shape)
        smooth, _, rough = np.array(shapes).T[:, :, None, None]
        covariances = rough**2 * self._rough
        covariances += _OFFSET**2
        covariances += smooth**2 * np.stack([self._smooth_part(shape.octaves) for shape in shapes])
        return np.asarray(covariances)

    def _smooth_part(self, octaves: float) -> Array:
        if octaves not in self._smooth:
            scaled = (math.sqrt(3) / octaves) * self._distance
            self._smooth[octaves] = (1 + scaled) * np.exp(-scaled)
        return self._smooth[octaves]


@lru_cache(maxsize=1024)
def own_kernel(sizes: bytes, shape: Shape) -> Array:
    """The kernel of a grid of sizes with itself, which is asked for again and again; not to be changed."""
    x = np.frombuffer(sizes)
    return KernelParts(x, x).kernel(shape)
