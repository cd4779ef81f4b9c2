"""What the samples of a run of points prove about one candidate against the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ccl_dispatch.tuner.curves import Noise
from ccl_dispatch.tuner.curves.betting import location_interval, pooled_confidence
from ccl_dispatch.tuner.curves.visits import slack, votes
from ccl_dispatch.tuner.fit.points import FitPoint
from ccl_dispatch.tuner.statistics import Interval, median_interval, shared_confidence


@dataclass(frozen=True)
class Evidence:
    """The typical log-ratio over a run of points with its interval, and what it rests on."""

    interval: Interval
    points: int
    samples: int


def band_evidence(points: Sequence[FitPoint], candidate: str, confidence: float, noise: Noise) -> Evidence:
    """The evidence on `candidate` over those of `points` at which it was measured (at least one).

    Two readings of the same samples, each a confidence sequence:

    - by point: the weighted mean of the points' medians; its bounds are the weighted means of the points' bounds at
      1 - alpha/points, which hold together (union bound). Sharp where the curve is steep and points have many samples.
    - pooled: the location of all samples of the run, each bound at 1 - alpha. Sharp where points have few samples.

    Where the sample counts allow both, each gets half of alpha and the one that lies further from zero speaks; where
    the counts allow only one, it gets all of alpha. Which ones are possible depends on counts, never on values.

    Where short visits were seen to differ, a visit is one sample, and the run's visits are pooled: that holds whatever
    lies within a visit.

    Args:
        points: neighbours by size.
        candidate: the backend.
        confidence: 1 - alpha of each bound of the interval.
        noise: the scatter of a pair's log-ratio, and of visits: where these differ, by as much is the interval wider.
    """
    ratios = [(point.octaves, point.ratios[candidate]) for point in points if candidate in point.ratios]
    visits = [ratio.visits for _, ratio in ratios]
    pool, scale = votes(visits, noise)
    if noise.whole:
        return Evidence(location_interval(pool, confidence, scale), len(ratios), sum(len(r.samples) for _, r in ratios))
    counts = [len(ratio.samples) for _, ratio in ratios]
    half = pooled_confidence(counts, confidence)
    count = len(pool)
    correlation = math.fsum(len(ratio.samples) * ratio.correlation for _, ratio in ratios) / count
    # However many repetitions a visit has, they say nothing of what it is off by itself.
    pooled = location_interval(pool, half, scale, correlation)
    pooled = _wider(pooled, slack(visits, noise.visit, scale, confidence))
    if half == confidence:  # there is no other reading
        return Evidence(pooled, len(ratios), count)
    each = shared_confidence(half, len(ratios))
    by_point = _weighted_mean(
        [(weight, median_interval(ratio.samples, each, ratio.correlation)) for weight, ratio in ratios]
    )
    by_point = _wider(by_point, slack(visits, noise.visit, scale, confidence, [weight for weight, _ in ratios]))
    sharper = max((by_point, pooled), key=lambda interval: max(interval.low, -interval.high))
    return Evidence(sharper, len(ratios), count)


def _wider(interval: Interval, by: float) -> Interval:
    return Interval(interval.median, interval.low - by, interval.high + by)


def _weighted_mean(intervals: Sequence[tuple[float, Interval]]) -> Interval:
    total = math.fsum(weight for weight, _ in intervals)

    def mean(values: Sequence[float]) -> float:
        return math.fsum(w * v for (w, _), v in zip(intervals, values, strict=True)) / total

    return Interval(
        mean([interval.median for _, interval in intervals]),
        mean([interval.low for _, interval in intervals]),
        mean([interval.high for _, interval in intervals]),
    )
