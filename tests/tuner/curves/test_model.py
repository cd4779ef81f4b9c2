"""Curves between measured sizes: near the truth, sure where there is reason to be, shared where cells prove alike."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves import CurveModel, Noise, PointSamples, summarise
from ccl_dispatch.tuner.curves.points import Points

Array = NDArray[np.float64]
SINGLE = PointSamples((0.1,))
GRID = np.linspace(4.0, 24.0, 81)


def _points(x: Array, values: Array, deviation: float, seed: int = 0) -> Points:
    noise = np.random.default_rng(seed).normal(0, deviation, len(x))
    return Points(x, values + noise, np.full(len(x), deviation**2), np.full(len(x), math.inf))


def _smooth(x: Array) -> Array:
    return 0.3 * np.sin((x - 4) / 20 * 2 * np.pi)


def test_a_smooth_curve_is_found_from_nine_points() -> None:
    """From nine points at 2 % noise the curve is off by less than 3 % everywhere, and says about as much of itself."""
    x = np.linspace(4, 24, 9)
    model = CurveModel.learn([_points(x, _smooth(x), 0.02)])
    (curve,) = model.posterior([_points(x, _smooth(x), 0.02)], [(0, GRID)])
    error = np.abs(curve.mean - _smooth(GRID))
    assert error.max() < 0.06
    assert float(np.sqrt((error**2).mean())) < 0.03
    assert (error < 3 * curve.deviation + 0.01).mean() > 0.95


def test_doubt_is_largest_between_points() -> None:
    """At a measured size the deviation is at most its noise; it rises towards the middle of a gap."""
    x = np.array([4.0, 8.0, 16.0, 24.0])
    points = _points(x, np.array([0.3, 0.2, -0.2, -0.3]), 0.02)
    (curve,) = CurveModel.learn([points]).posterior([points], [(0, np.array([8.0, 12.0, 16.0]))])
    at, between, other = curve.deviation.tolist()
    assert max(at, other) <= 0.021
    assert between > 2 * at


def test_nothing_measured_means_no_opinion() -> None:
    """Without points the mean is zero and the deviation wide."""
    empty = Points.of([], [])
    (curve,) = CurveModel.learn([empty]).posterior([empty], [(0, GRID)])
    assert np.abs(curve.mean).max() == 0
    assert curve.deviation.min() > 0.3


def test_cells_that_coincide_tell_of_each_other() -> None:
    """Three points that agree with a well-measured cell are enough to find a curve that they alone would miss."""
    x = np.linspace(4, 24, 13)
    few = np.array([4.0, 13.0, 24.0])
    cells = [_points(x, _smooth(x), 0.03, 1), _points(few, _smooth(few), 0.03, 2)]
    model = CurveModel.learn(cells)
    assert model.likeness > 0.9
    shared = model.posterior(cells, [(1, GRID)])[0]
    alone = CurveModel.learn(cells[1:]).posterior(cells[1:], [(0, GRID)])[0]
    error, lonely = (float(np.sqrt(((curve.mean - _smooth(GRID)) ** 2).mean())) for curve in (shared, alone))
    assert error < 0.03
    assert error < lonely / 4


def test_cells_that_differ_are_left_alone() -> None:
    """Curves of opposite sign are not mixed: each is as right as if it were alone."""
    x = np.linspace(4, 24, 9)
    cells = [_points(x, _smooth(x), 0.03, 1), _points(x, -_smooth(x), 0.03, 2)]
    model = CurveModel.learn(cells)
    assert model.likeness < 0.1
    (second,) = model.posterior(cells, [(1, GRID)])
    assert float(np.sqrt(((second.mean + _smooth(GRID)) ** 2).mean())) < 0.04


def _hit(points: Points, *places: int) -> Points:
    values = points.values.copy()
    values[list(places)] += 0.6
    return Points(points.x, values, points.variances, np.full(len(points.x), summarise(SINGLE, Noise(0.05)).trust))


def test_a_lone_sample_that_all_others_contradict_is_an_outlier() -> None:
    """One sample of 17 is off by a factor of 1.8: where it stands the curve is that of the others, and open again."""
    x = np.linspace(4, 24, 17)
    points = _hit(_points(x, _smooth(x), 0.05), 6)
    model = CurveModel.learn([points])
    (kept,) = model.without_outliers([points])
    assert np.flatnonzero(kept.variances > points.variances).tolist() == [6]
    (curve,) = model.posterior([kept], [(0, x)])
    assert abs(curve.mean[6] - _smooth(x)[6]) < 0.08
    assert curve.deviation[6] > np.median(curve.deviation)


def test_two_samples_side_by_side_are_an_island() -> None:
    """What two neighbours agree on is the curve, however far it lies from all else; and so are several samples."""
    x = np.linspace(4, 24, 17)
    island = _hit(_points(x, _smooth(x), 0.05), 6, 7)
    several = replace(_hit(_points(x, _smooth(x), 0.05), 6), trust=np.full(17, math.inf))
    for points in (island, several):
        model = CurveModel.learn([points])
        (kept,) = model.without_outliers([points])
        assert kept.variances.tolist() == points.variances.tolist()


@pytest.mark.parametrize("factor", [1.0, 8.0])
def test_large_ratios_are_no_exception(factor: float) -> None:
    """A candidate that is faster by factors is fitted as well as one that is faster by percents."""
    x = np.linspace(4, 24, 9)
    truth = factor * _smooth(x)
    points = _points(x, truth, 0.02 * factor)
    (curve,) = CurveModel.learn([points]).posterior([points], [(0, GRID)])
    assert np.abs(curve.mean - factor * _smooth(GRID)).max() < 0.08 * factor
