"""Points whose few samples may be outliers: how likely that is, by all that is known of a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves.kernel import JITTER, SHAPES, Shape, unit_of
from ccl_dispatch.tuner.curves.noise import OUTLIER_SCALE
from ccl_dispatch.tuner.curves.points import Points, once_for_each

Array = NDArray[np.float64]

# A size may have a level of its own that no other size hints at, the more likely the further those are: in one of two
# hundred octaves. However badly a point fits the others, that is the other way to explain it.
_OWN_LEVELS_PER_OCTAVE = 0.005


def log_odds(evidence: Array | float, trust: Array | float, room: Array | float) -> Array:
    """Log odds of being an outlier.

    Args:
        evidence: how much better the point fits as an outlier, as a log likelihood ratio.
        trust: log odds of its samples against being outliers, before the others are heard.
        room: octaves that the point stands for.
    """
    return np.asarray(-np.logaddexp(-np.asarray(evidence), np.log(_OWN_LEVELS_PER_OCTAVE * np.asarray(room))) - trust)


class Suspect(NamedTuple):
    """The log odds that a point is an outlier, its place, and the shapes that fit its curve best if so and if not."""

    odds: float
    place: int
    shape: Shape
    shape_if_true: Shape

    @property
    def share(self) -> float:
        """The odds as a probability."""
        return 1 / (1 + math.exp(-self.odds))


@once_for_each
def most_suspicious(points: Points) -> Suspect | None:
    """The point of a cell that is most likely an outlier; None if none stands out from its neighbours."""
    return _most_likely(points, np.flatnonzero(points.suspects))


@once_for_each
def most_credible(points: Points, without: Points) -> Suspect | None:
    """Of those that are outliers in `without` the point that is least likely one; None if there are none.

    Each is asked about on its own, with the others as they are there.
    """
    found = [
        _most_likely(believed(without, points, place), np.array([place]))
        for place in np.flatnonzero(without.variances > points.variances).tolist()
    ]
    return min((suspect for suspect in found if suspect), key=lambda suspect: suspect.odds, default=None)


def _most_likely(points: Points, places: NDArray[np.intp]) -> Suspect | None:
    """The most likely outlier among the points at `places`.

    The evidence of all shapes together with an outlier's variance at the point, against that with its own. Under one
    shape the two differ in how likely the point is given all others (C. E. Rasmussen and C. K. I. Williams, Gaussian
    Processes for Machine Learning (2006), section 5.4.2), and it is all shapes that are asked, since one that fits the
    point is as rough as that point says.
    """
    if not len(places):
        return None
    unit = unit_of(points.values)
    covariance = points.parts.kernels(SHAPES) * unit**2
    inverse = np.linalg.inv(covariance + np.diag(points.variances + JITTER))
    pulls = inverse @ points.values
    whole = 0.5 * (np.linalg.slogdet(inverse)[1] - pulls @ points.values)
    spread = 1 / inverse[:, places, places]
    away = pulls[:, places] * spread
    wide = spread + OUTLIER_SCALE**2
    without = whole[:, None] + 0.5 * (away**2 / spread - away**2 / wide + np.log(spread / wide))
    better = np.logaddexp.reduce(without) - np.logaddexp.reduce(whole)
    odds = log_odds(better, points.trust[places], points.room[places])
    worst = int(np.argmax(odds))
    best_shape, best_if_true = int(np.argmax(without[:, worst])), int(np.argmax(whole))
    return Suspect(float(odds[worst]), int(places[worst]), SHAPES[best_shape], SHAPES[best_if_true])


def believed(without: Points, points: Points, place: int) -> Points:
    """The points `without` outliers, one of them taken as it was measured."""
    variances, trust = without.variances.copy(), without.trust.copy()
    variances[place], trust[place] = points.variances[place], points.trust[place]
    return replace(without, variances=variances, trust=trust)


def widened(cells: Sequence[Points], cell: int, place: int) -> list[Points]:
    """The points, one of them as uncertain as an outlier, and not to be looked at again."""
    return [_widened(points, place) if n == cell else points for n, points in enumerate(cells)]


@once_for_each
def _widened(points: Points, place: int) -> Points:
    variances, trust = points.variances.copy(), points.trust.copy()
    variances[place] += OUTLIER_SCALE**2
    trust[place] = math.inf
    return replace(points, variances=variances, trust=trust)
