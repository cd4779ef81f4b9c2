"""Points whose few samples may be outliers: how likely that is, by all that is known of a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ccl_dispatch.tuner.curves.kernel import JITTER, SHAPES, Shape, unit_of
from ccl_dispatch.tuner.curves.noise import OUTLIER_SCALE
from ccl_dispatch.tuner.curves.points import Points


class Suspect(NamedTuple):
    """The log odds that a point is an outlier, its place, and the shape that fits its curve best if it is one."""

    odds: float
    place: int
    shape: Shape

    @property
    def share(self) -> float:
        """The odds as a probability."""
        return 1 / (1 + math.exp(-self.odds))


def most_suspicious(points: Points) -> Suspect | None:
    """The point of a cell that is most likely an outlier; None if none stands out from its neighbours.

    The evidence of all shapes together with an outlier's variance at the point, against that with its own. Under one
    shape the two differ in how likely the point is given all others (C. E. Rasmussen and C. K. I. Williams, Gaussian
    Processes for Machine Learning (2006), section 5.4.2), and it is all shapes that are asked, since one that fits the
    point is as rough as that point says.
    """
    places = np.flatnonzero(points.suspects)
    if not len(places):
        return None
    unit = unit_of(points.values)
    covariance = np.stack([unit**2 * points.parts.kernel(shape) for shape in SHAPES])
    inverse = np.linalg.inv(covariance + np.diag(points.variances + JITTER))
    pulls = inverse @ points.values
    whole = 0.5 * (np.linalg.slogdet(inverse)[1] - pulls @ points.values)
    spread = 1 / inverse[:, places, places]
    away = pulls[:, places] * spread
    wide = spread + OUTLIER_SCALE**2
    without = whole[:, None] + 0.5 * (away**2 / spread - away**2 / wide + np.log(spread / wide))
    odds = np.logaddexp.reduce(without) - np.logaddexp.reduce(whole) - points.trust[places]
    worst = int(np.argmax(odds))
    return Suspect(float(odds[worst]), int(places[worst]), SHAPES[int(np.argmax(without[:, worst]))])


def widened(cells: Sequence[Points], cell: int, place: int) -> list[Points]:
    """The points, one of them as uncertain as an outlier, and not to be looked at again."""
    variances, trust = cells[cell].variances.copy(), cells[cell].trust.copy()
    variances[place] += OUTLIER_SCALE**2
    trust[place] = math.inf
    return [
        replace(points, variances=variances, trust=trust) if n == cell else points for n, points in enumerate(cells)
    ]
