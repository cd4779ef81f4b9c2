"""How far visits of one size differ by more than their repetitions show, and what that leaves open.

Buffers lie elsewhere, a host has other clocks or neighbours: what one visit finds is off by something of its own, which
no number of repetitions makes smaller. Two H200 in eager mode: 96 repetitions, whose median is known to 3 %, found 15 %
where a second sweep found 4 %, and the sizes around it none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import NormalDist, median

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves.noise import LEAST_SCATTER, OUTLIER_SCALE, Noise, PointSamples, deviation_of, median_of

#: Shorter visits say too little of themselves for what lies between them to be told from how they scatter.
LONG = 16
#: So many sizes of curves that are measured alike tell by being visited again what visits differ by; from fewer nothing
#: is concluded. The middle one of three is not moved by one that was disturbed.
SIZES_AGAIN = 3
# What visits may differ by, in times of what their samples scatter by; and how likely it is that they do, before any
# was made again.
_RATIOS = (0.5, 1.0, 2.0, 4.0, 8.0)
_DIFFER = 0.3
# Among visits of so many samples that were made again so many are outliers, of which so many are told apart at a size.
_ODD = {1: 0.2, 2: 0.03}
_MOST_ODD = 4


def with_visits(noise: Noise, cells: Iterable[Mapping[int, PointSamples]]) -> Noise:
    """The noise with what visits of these cells differ by, which is not the same for all cells of a study.

    Where too few sizes have long visits for that, all that were visited again are asked whether visits differ at all.
    """
    cells = list(cells)
    ratio = visit_ratio(cells)
    if ratio is not None:
        return replace(noise, visit=ratio, settled=True, whole=False)
    likely = likely_ratio(cells, noise.scale)
    return replace(noise, visit=likely, settled=False, whole=likely > 0)


def visit_ratio(cells: Iterable[Mapping[int, PointSamples]]) -> float | None:
    """By how many times more than the repetitions of a visit visits of one size scatter, beyond what these explain.

    As a ratio, because both differ by orders of magnitude from the smallest size to the largest. None where fewer than
    `SIZES_AGAIN` sizes have several long visits.

    Args:
        cells: by size in bytes, of curves that are measured alike.
    """
    found = []
    for point in (point for cell in cells for point in cell.values()):
        visits = [np.asarray(visit) for visit in point.by_visit() if len(visit) >= LONG]
        if len(visits) > 1:
            found.append(_ratio_of(visits))
    return median(found) if len(found) >= SIZES_AGAIN else None


def likely_ratio(cells: Iterable[Mapping[int, PointSamples]], scale: float) -> float:
    """The same from visits of any length: 0 unless it is likelier than not that visits differ, by those of one size.

    What a visit finds lies normally around the truth of its size, by what its repetitions leave open and by the ratio;
    or, where it is too short to show that, it is an outlier. A search comes back to what looked odd, so there are more
    of these among its first visits than elsewhere. Each ratio of a few is held against all sizes; of fewer than
    `SIZES_AGAIN` nothing is concluded: where one size was disturbed, or hit by a call ten times as long, that would
    make all points of all curves as uncertain as that one.

    Args:
        cells: by size in bytes, of curves that are measured alike.
        scale: of the samples of one visit, log units.
    """
    logs = np.array([math.log1p(-_DIFFER), *([math.log(_DIFFER / len(_RATIOS))] * len(_RATIOS))])
    again = [point for cell in cells for point in cell.values() if len(point.lengths) > 1]
    if len(again) < SIZES_AGAIN:
        return 0.0
    for point in again:
        logs = logs + _log_likelihoods(point, scale)
    weights = np.exp(logs - logs.max())
    if weights[0] >= weights[1:].sum():
        return 0.0
    # The likeliest of them, not their mean, which each visit would move, and with it every curve.
    return _RATIOS[int(weights[1:].argmax())]


# A search asks for the same points again and again, of which one or two have changed.
@lru_cache(maxsize=16384)
def _log_likelihoods(point: PointSamples, scale: float) -> NDArray[np.float64]:
    """Of what the visits of one size found, whose truth may be anything, by the ratio: none, and each of `_RATIOS`."""
    visits = [visit for visit in point.by_visit() if visit]
    values = np.array([median_of(visit) for visit in visits])
    counts = np.array([len(visit) for visit in visits])
    # The variance of a median of independent normals is pi/2 that of their mean, from three on.
    own = scale**2 * np.where(counts > 2, math.pi / 2, 1.0) / counts
    odd = np.array([_ODD.get(count, 0.0) for count in counts.tolist()])
    # Rows: which of the short visits are outliers, of those that lie furthest out.
    furthest = np.argsort(-np.abs(values - median_of(values)) * (odd > 0), kind="stable")[:_MOST_ODD]
    which = furthest[odd[furthest] > 0]
    out = np.zeros((2 ** len(which), len(visits)), dtype=bool)
    out[:, which] = (np.arange(len(out))[:, None] >> np.arange(len(which))) & 1
    prior = np.log(np.where(out, odd, 1 - odd)).sum(axis=1)
    ratios = np.array([0.0, *_RATIOS])[:, None, None]
    spread = own + (ratios * scale) ** 2 + LEAST_SCATTER**2 + out * OUTLIER_SCALE**2
    precision = (1 / spread).sum(axis=2)
    middle = (values / spread).sum(axis=2) / precision
    squares = ((values - middle[:, :, None]) ** 2 / spread).sum(axis=2)
    found = prior - 0.5 * (np.log(spread).sum(axis=2) + np.log(precision) + squares)
    return np.asarray(np.logaddexp.reduce(found, axis=1))


def votes(points: Iterable[PointSamples], noise: Noise) -> tuple[list[float], float]:
    """The samples of a run of points that bear witness one by one, and their scatter: repetitions, or whole visits."""
    if not noise.whole:
        return [value for point in points for value in point.repeats], noise.scale
    values = [median_of(visit) for point in points for visit in point.by_visit() if visit]
    return values, math.hypot(noise.scale, noise.visit * noise.scale)


def slack(
    points: Sequence[PointSamples],
    ratio: float,
    scale: float,
    confidence: float,
    weights: Sequence[float] | None = None,
) -> float:
    """What the mean of samples may be off by because visits differ, on either side with `confidence`, in log units.

    The visits of a point are taken to lie normally around its truth, `ratio` times as far as its samples scatter. One
    that has most of the samples has most of the say.

    Args:
        points: at least one.
        ratio: see `visit_ratio`.
        scale: of a point's samples where it has too few to tell.
        confidence: from 0.5 up.
        weights: what each point counts; its samples where left out.
    """
    if ratio <= 0:
        return 0.0
    counts = [sum(point.lengths) for point in points]
    shares = counts if weights is None else weights
    whole = math.fsum(shares)
    variances = [
        (share / whole) ** 2 * sum((length / count) ** 2 for length in point.lengths) * _own_variance(point, scale)
        for point, count, share in zip(points, counts, shares, strict=True)
        if count
    ]
    return NormalDist().inv_cdf(confidence) * ratio * math.sqrt(math.fsum(sorted(variances)))


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
