"""Jumps: found where a few points in a row say so, not where noise does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves import CurveModel
from ccl_dispatch.tuner.curves.jumps import Jump, best_run
from ccl_dispatch.tuner.curves.points import Points

Array = NDArray[np.float64]
NOISE = 0.07
# Flat but for an island of three points among eighty.
SIZES = np.linspace(4.0, 22.0, 80)
ISLAND = (SIZES > 14) & (SIZES < 14.7)


def _points(values: Array, seed: int) -> Points:
    noise = np.random.default_rng(seed).normal(0, NOISE, len(values))
    return Points(SIZES, values + noise, np.full(len(values), NOISE**2), np.ones(len(values), dtype=bool))


def _evidence(values: Array, covariance: Array) -> float:
    return float(-0.5 * values @ np.linalg.solve(covariance, values) - 0.5 * np.linalg.slogdet(covariance)[1])


@given(st.integers(0, 2**32 - 1))
def test_the_best_run_is_that_of_all_evidences_computed_one_by_one(seed: int) -> None:
    """Prefix sums give what adding each run to the covariance gives; runs never part points of one size."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.integers(0, 7, 9)).astype(float)
    root = rng.normal(size=(9, 9))
    covariance = root @ root.T / 9 + 0.2 * np.eye(9)
    values = rng.normal(0, 0.5, 9)
    runs = {}
    for start in range(9):
        for end in range(start, 9):
            whole = (start, end) == (0, 8)
            if not whole and (start == 0 or x[start] > x[start - 1]) and (end == 8 or x[end + 1] > x[end]):
                inside = ((np.arange(9) >= start) & (np.arange(9) <= end)).astype(float)
                more = covariance + 0.3**2 * np.outer(inside, inside)
                runs[start, end] = _evidence(values, more) - _evidence(values, covariance)
    if not runs:
        return
    inverse = np.linalg.inv(covariance)
    gain, start, end = best_run(x, inverse @ values, inverse, 0.3)
    assert gain + math.log(len(runs)) == pytest.approx(max(runs.values()), abs=1e-6)
    assert runs[start, end] == pytest.approx(max(runs.values()), abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_three_points_of_an_island_are_not_noise(seed: int) -> None:
    """Between 77 points at +5 % three at -30 % are believed, and so is what lies around them."""
    points = _points(np.where(ISLAND, -0.3, 0.05), seed)
    (curve,) = CurveModel.learn([points]).posterior([points], [(0, SIZES)])
    assert int(ISLAND.sum()) == 3
    assert (curve.mean[ISLAND] < -0.15).all()
    assert (np.abs(curve.mean[~ISLAND] - 0.05) < 0.15).all()
    assert (curve.mean[~ISLAND] > 0).mean() > 0.95


def test_one_of_three_that_are_alike_may_have_a_jump_of_its_own() -> None:
    """Fifty points in each of three dtypes say that they have one curve; four sizes of one say that it lies elsewhere
    there. In at least 18 of 20 draws they are believed, in that dtype and in no other (where only all could jump: 16).
    """
    inside = np.array([10.3, 11.0, 11.7])
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        cells = []
        for cell in range(3):
            x = np.sort(rng.choice(SIZES, 50, replace=False))
            if cell == 0:
                x = np.sort(np.concatenate([x[(x < 10) | (x > 12)], [10.2, 10.6, 11.2, 11.8]]))
            values = 0.02 * (x - 13) + np.where((cell == 0) & (x > 10) & (x < 12), 0.3, 0.0)
            values += rng.normal(0, NOISE, len(x))
            cells.append(Points(x, values, np.full(len(x), NOISE**2), np.full(len(x), 3.5)))
        one, two, three = CurveModel.learn(cells).posterior(cells, [(cell, inside) for cell in range(3)])
        found += bool((one.mean > 0.1).all() and (np.maximum(two.mean, three.mean) < 0.1).all())
    assert found >= 18


def test_noise_makes_no_jumps() -> None:
    """A flat curve with nothing but noise has a jump in at most 5 of 100 draws."""
    found = 0
    for seed in range(100):
        points = _points(np.full(len(SIZES), 0.05), seed)
        found += bool(CurveModel.learn([points]).jumps([points])[0])
    assert found <= 5


def test_where_an_edge_lies_between_two_sizes_is_not_known() -> None:
    """Half-way through a gap the curve is as unsure as a coin; at the measured sizes there is nothing of that."""
    jump = Jump(None, 8.0, 10.0, 12.0, math.inf)
    x = np.array([7.0, 8.0, 9.0, 10.0, 12.0, 13.0])
    assert jump.inside(x).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0, 1.0]
    assert np.diagonal(jump.spread(x)).tolist() == [0.0, 0.0, 0.25, 0.0, 0.0, 0.0]


@given(st.floats(0.1, 5), st.floats(0.0, 5), st.floats(0.1, 5))
def test_the_spread_is_a_covariance(first: float, run: float, second: float) -> None:
    """Its eigenvalues are not negative, wherever the edges lie."""
    jump = Jump(0, 8.0, 8.0 + first, 8.0 + first + run, 8.0 + first + run + second)
    assert np.linalg.eigvalsh(jump.spread(np.linspace(7, 25, 40))).min() > -1e-9
