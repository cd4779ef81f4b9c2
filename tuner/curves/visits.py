"""How far visits of one size differ by more than their repetitions show, and what that leaves open.

Buffers lie elsewhere, a host has other clocks or neighbours: what one visit finds is off by something of its own, which
no number of repetitions makes smaller. Two H200 in eager mode: 96 repetitions, whose median is known to 3 %, found 15 %
where a second sweep found 4 %, and the sizes around it none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist, median

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves.noise import LEAST_SCATTER, Noise, PointSamples, deviation_of, median_of

#: Shorter visits say too little of themselves for what lies between them to be told from how they scatter.
LONG = 16
#: So many sizes of curves that are measured alike tell by being visited again what visits differ by; from fewer nothing
#: is concluded. The middle one of three is not moved by one that was disturbed.
SIZES_AGAIN = 3


def with_visits(noise: Noise, cells: Iterable[Mapping[int, PointSamples]]) -> Noise:
    """The noise with what visits of these cells differ by, which is not the same for all cells of a study."""
    return replace(noise, visit=visit_ratio(cells))


def visit_ratio(cells: Iterable[Mapping[int, PointSamples]]) -> float:
    """By how many times more than the repetitions of a visit visits of one size scatter, beyond what these explain.

    As a ratio, because both differ by orders of magnitude from the smallest size to the largest.

    Args:
        cells: by size in bytes, of curves that are measured alike.
    """
    found = []
    for point in (point for cell in cells for point in cell.values()):
        visits = [np.asarray(visit) for visit in point.by_visit() if len(visit) >= LONG]
        if len(visits) > 1:
            found.append(_ratio_of(visits))
    return median(found) if len(found) >= SIZES_AGAIN else 0.0


def slack(points: Iterable[PointSamples], ratio: float, scale: float, confidence: float) -> float:
    """What the mean of visits may be off by because visits differ, on either side with `confidence`, in log units.

    The visits of a point are taken to lie normally around its truth, `ratio` times as far as its samples scatter.

    Args:
        points: at least one.
        ratio: see `visit_ratio`.
        scale: of a point's samples where it has too few to tell.
        confidence: from 0.5 up.
    """
    if ratio <= 0:
        return 0.0
    variances, visits = [], 0
    for point in points:
        variances.append(len(point.lengths) * _own_variance(point, scale))
        visits += len(point.lengths)
    return NormalDist().inv_cdf(confidence) * ratio * math.sqrt(math.fsum(sorted(variances))) / visits


def _own_variance(point: PointSamples, scale: float) -> float:
    """Of the samples of one visit: what lies between visits is not in it, as their ratio is a multiple of this."""
    long = [np.asarray(visit) for visit in point.by_visit() if len(visit) >= LONG]
    if long:
        return _mean_variance(long)
    return _scatter(np.asarray(point.repeats)) ** 2 if len(point.repeats) >= LONG else scale**2


def _mean_variance(visits: Sequence[NDArray[np.float64]]) -> float:
    return math.fsum(sorted(_scatter(visit) ** 2 for visit in visits)) / len(visits)


def _scatter(values: NDArray[np.float64]) -> float:
    return deviation_of(values - median_of(values))


def _ratio_of(visits: Sequence[NDArray[np.float64]]) -> float:
    medians = [median_of(visit) for visit in visits]
    scale = _mean_variance(visits)
    # The middle one of several such variances is taken, and the median of chi-squared lies that far below its mean
    # (E. Wilson and M. Hilferty, The distribution of chi-square, PNAS 17, 1931): of two visits at less than half.
    below = (1 - 2 / (9 * (len(visits) - 1))) ** 3
    between = float(np.var(medians, ddof=1)) / below
    # The variance of a median of independent samples is pi/2 that of their mean.
    explained = math.pi / 2 * math.fsum(sorted(scale / len(visit) for visit in visits)) / len(visits)
    left = max(between - explained - LEAST_SCATTER**2, 0.0)
    return math.sqrt(left / scale) if scale > 0 else 0.0
