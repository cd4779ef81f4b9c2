"""What a run of points proves: which reading of the samples speaks, and how wide it is where visits differ."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from ccl_dispatch.tuner.curves import Noise, PointSamples
from ccl_dispatch.tuner.curves.betting import location_interval
from ccl_dispatch.tuner.curves.visits import slack
from ccl_dispatch.tuner.fit.evidence import Evidence, band_evidence
from ccl_dispatch.tuner.fit.points import FitPoint, Ratio
from ccl_dispatch.tuner.statistics import Interval, median_interval

NOISE = Noise(0.05)


def _point(size: int, visits: Sequence[Sequence[float]], octaves: float = 1.0, correlation: float = 1.0) -> FitPoint:
    values = tuple(value for visit in visits for value in visit)
    samples = PointSamples(values, (), tuple(map(len, visits)))
    ratio = Ratio(tuple(sorted(values)), Interval(0.0, -math.inf, math.inf), correlation, samples)
    return FitPoint(size, octaves, octaves, {"fast": ratio}, {})


def _values(centre: float, count: int, seed: int, spread: float = 0.05) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(centre, spread) for _ in range(count)]


def _three(interval: Interval) -> list[float]:
    return [interval.median, interval.low, interval.high]


def _evidence(points: Sequence[FitPoint], noise: Noise = NOISE) -> Evidence:
    elsewhere = FitPoint(1 << 20, 5.0, 5.0, {}, {})
    return band_evidence([*points, elsewhere], "fast", 0.95, noise)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_reading_that_is_further_from_zero_speaks(sign: int) -> None:
    """Where the curve is steep and points have many samples that is the mean of the points' intervals, by octaves;
    where they are alike and few it is that of all samples. Each has half of alpha, of which the points have shares.
    """
    steep = [_values(sign * centre, 60, 3, 0.001) for centre in (0.1, 0.9)]
    found = _evidence([_point(64, steep[:1], 1.0), _point(256, steep[1:], 3.0)])
    bounds = [median_interval(sorted(values), 1 - 0.05 / 2 / 2) for values in steep]
    expected = [(one + 3 * other) / 4 for one, other in zip(*map(_three, bounds), strict=True)]
    assert _three(found.interval) == pytest.approx(expected, abs=1e-12)
    alike = [_values(sign * 0.1, 12, seed) for seed in (4, 5)]
    found = _evidence([_point(64, alike[:1]), _point(256, alike[1:])])
    pooled = location_interval([*alike[0], *alike[1]], 1 - 0.05 / 2, NOISE.scale)
    assert _three(found.interval) == pytest.approx(_three(pooled), abs=1e-12)
    assert (found.points, found.samples) == (2, 24)
    # Further from zero at its near end: that it is at its far end as well does not count against it.
    near = [_values(sign * centre, 60, 11) for centre in (0.3, 0.4)]
    found = _evidence([_point(64, near[:1], 1.0), _point(256, near[1:], 9.0)])
    bounds = [median_interval(sorted(values), 1 - 0.05 / 2 / 2) for values in near]
    expected = [(one + 9 * other) / 10 for one, other in zip(*map(_three, bounds), strict=True)]
    pooled = location_interval([*near[0], *near[1]], 1 - 0.05 / 2, NOISE.scale)
    assert max(abs(pooled.low), abs(pooled.high)) < max(map(abs, expected))
    assert _three(found.interval) == pytest.approx(expected, abs=1e-12)


def test_where_counts_allow_one_reading_it_has_all_of_alpha() -> None:
    """A lone point, and points with too few samples for intervals of their own, speak by all samples together."""
    for visits in ([_values(0.1, 30, 6)], [_values(0.1, 5, 7), _values(0.1, 5, 8)]):
        points = [_point(64 << number, [visit]) for number, visit in enumerate(visits)]
        pool = [value for visit in visits for value in visit]
        assert _evidence(points).interval == location_interval(pool, 0.95, NOISE.scale)


def test_samples_that_resemble_each_other_count_for_fewer() -> None:
    """By how much is the mean over the run, each point by its samples."""
    few, many = _values(0.1, 5, 9), _values(0.1, 15, 10)
    found = _evidence([_point(64, [few], correlation=4.0), _point(128, [many], correlation=1.0)])
    assert found.interval == location_interval([*few, *many], 0.95, NOISE.scale, (5 * 4.0 + 15 * 1.0) / 20)


@pytest.mark.parametrize("counts", [(60, 60), (5, 5)])
def test_by_as_much_as_visits_differ_bounds_are_wider(counts: tuple[int, int]) -> None:
    """On both sides, whichever reading speaks; how many repetitions a visit has makes it no smaller."""
    points = [
        _point(size, [_values(centre, count, size, 0.001)], octaves)
        for size, centre, count, octaves in zip((64, 256), (0.1, 0.9), counts, (1.0, 3.0), strict=True)
    ]
    noise = Noise(0.05, visit=2.0, settled=True)
    plain, wider = _evidence(points).interval, _evidence(points, noise).interval
    weights = [1.0, 3.0] if counts[0] > 5 else None
    by = slack([point.ratios["fast"].visits for point in points], 2.0, 0.05, 0.95, weights)
    assert by > 0
    assert _three(wider) == pytest.approx([plain.median, plain.low - by, plain.high + by], abs=1e-12)


def test_where_short_visits_differ_each_is_one_sample() -> None:
    """The visits' medians are all that counts, with the scatter of both; the repetitions are told all the same."""
    visits = [_values(0.1 + 0.01 * number, 3, number) for number in range(20)]
    noise = Noise(0.05, visit=2.0, whole=True)
    found = _evidence([_point(64, visits[:8]), _point(128, visits[8:])], noise)
    medians = [sorted(visit)[1] for visit in visits]
    assert found == Evidence(location_interval(medians, 0.95, math.hypot(0.05, 0.1)), 2, 60)
